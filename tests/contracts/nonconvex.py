"""A fields-of-experts energy with many minimisers and saddles, and Newton's method for truth."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

import bilevel as bl
from bilevel.model import Variational
from bilevel.solve import Solution, Status, certify
from contracts.zoo import SHAPE, dense_hessian, slope

ROWS = 100


def student() -> Variational:
    """Weight and smoothing such that wells of the data and of the experts compete."""
    torch.manual_seed(0)
    filters = torch.randn(3, 1, 3, 2) / 2
    foe = bl.regularisers.FieldsOfExperts(
        filters, 1.0, 0.01, potential="student-t", boundary="valid"
    )
    return Variational(bl.fidelities.SquaredL2(), foe).double()


def data_and_starts() -> tuple[Tensor, Tensor]:
    """The same image a hundred times, and a hundred random starts."""
    torch.manual_seed(1)
    y = torch.rand(1, *SHAPE, dtype=torch.float64).expand(ROWS, *SHAPE)
    return y, y + torch.randn(ROWS, *SHAPE, dtype=torch.float64)


def as_solution(energy: Variational, y: Tensor, x: Tensor) -> Solution:
    """Any point as a solution, with its honest certificate."""
    status = torch.full((len(x),), int(Status.CONVERGED))
    found = certify(energy.at(y), x)
    return Solution(x, found, status, torch.zeros_like(status), bl.Tolerance(residual=1.0))


def saddles(energy: Variational, y: Tensor, x: Tensor) -> Tensor:
    """Critical points of ½‖∇J‖² near x by Levenberg and Marquardt; those that are critical of J."""
    objective, n = energy.at(y), x[0].numel()
    eye = torch.eye(n, dtype=x.dtype)
    damping = torch.ones(len(x), dtype=x.dtype)
    for _ in range(60):
        hessian = objective.hessian(x)
        columns = [hessian(e.reshape(x[:1].shape).expand_as(x)).flatten(1) for e in eye]
        matrix, g = torch.stack(columns, 2), objective.grad(x).flatten(1, -1)[..., None]
        step = torch.linalg.solve(matrix @ matrix + damping[:, None, None] * eye, matrix @ g)
        trial = x - step.reshape(x.shape)
        merit = objective.grad(trial).flatten(1).norm(dim=1)
        good = merit < g.flatten(1).norm(dim=1)
        x = torch.where(good[:, None, None, None], trial, x)
        damping = torch.where(good, damping / 5, damping * 4)
    return x[objective.grad(x).flatten(1).norm(dim=1) < 1e-8]


def polished(energy: Variational, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The critical point that Newton's method finds from x (1, ...), and the eigenvalues there."""
    energy = copy.deepcopy(energy)
    for parameter in energy.parameters():
        parameter.requires_grad_(False)
    gradient = slope(energy, x, y)
    for _ in range(30):
        step = torch.linalg.solve(dense_hessian(energy, x, y), gradient.flatten())
        x = x - step.reshape(x.shape)
        gradient = slope(energy, x, y)
        if float(gradient.norm()) < 1e-13:
            break
    return x, torch.linalg.eigvalsh(dense_hessian(energy, x, y))
