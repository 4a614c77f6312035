"""Operators side by side, added and scaled."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model.operators import (
    Added,
    Convolution,
    Downsampling,
    FourierMask,
    Identity,
    Operator,
    Scaled,
    Stacked,
)
from contracts.operators import Case, OperatorContract, dense, images


def blur() -> Convolution:
    return Convolution(images((1, 3, 3))[0, 0])


def lines() -> FourierMask:
    return FourierMask.lines((6, 8), 2.0, 0.25, 0)


class TestCombined(OperatorContract):
    cases = (
        Case("channels", lambda: Stacked([blur(), Identity()], (1, 6, 8)), (1, 6, 8), loose=1.35),
        Case("lines", lambda: Stacked([lines(), Downsampling(2)], (1, 6, 8)), (1, 6, 8)),
        Case("one", lambda: Stacked([blur()], (2, 6, 8)), (2, 6, 8)),
        Case("sum", lambda: blur() + Identity(), (1, 6, 8)),
        Case("three", lambda: Added([blur(), Identity(), blur()]), (1, 6, 8)),
        Case("scaled", lambda: -0.3 * blur(), (1, 6, 8), loose=1.35),
        Case("all", lambda: 2.0 * (blur() @ blur() + Identity()), (1, 6, 8)),
    )


def test_they_are_what_their_matrices_are() -> None:
    shape = (1, 6, 8)
    a, b, c = (dense(o.double(), shape) for o in (blur(), Identity(), Downsampling(2)))
    pairs: list[tuple[Operator, torch.Tensor]] = [
        (Stacked([blur(), Downsampling(2)], shape), torch.cat([a, c])),
        (blur() + Identity(), a + b),
        (Scaled(blur(), -2.5), -2.5 * a),
    ]
    for operator, matrix in pairs:
        torch.testing.assert_close(dense(operator.double(), shape), matrix)


def test_two_measurements_are_solved_together() -> None:
    """Two noisy pictures of one image weigh as one with half the variance."""
    y = images((1, 6, 8), batch=1)
    twice = Stacked([Identity(), Identity()], (1, 6, 8))
    energy = bl.Variational(bl.fidelities.SquaredL2(twice), bl.regularisers.Tikhonov(1.0)).double()
    both = torch.cat([y, 3 * y], 1)
    found = bl.minimise(energy.at(both), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-9))
    torch.testing.assert_close(found.require().x, 4 * y / 3, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Stacked([], (1, 4, 4)),
        lambda: Stacked([Identity(), 3], (1, 4, 4)),
        lambda: Stacked([Downsampling(3)], (1, 4, 4)),
        lambda: Stacked([Identity()], (1, 4, 4))(torch.ones(1, 1, 4, 5)),
        lambda: Added([Identity(), Downsampling(2)])(torch.ones(1, 1, 4, 4)),
        lambda: 0.0 * Identity(),
        lambda: float("inf") * Identity(),
        lambda: Identity() + (lambda x: x),
    ],
)
def test_what_does_not_fit_is_refused(make) -> None:
    with pytest.raises(InputError):
        make()
