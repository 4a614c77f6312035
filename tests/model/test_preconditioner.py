"""Preconditioners: their parts against dense Hessians, and what they save."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.ground import rows
from bilevel.linear import LinearMap, cg
from bilevel.linear.quasi_newton import Memory
from bilevel.model.preconditioner import Preconditioner, Stencil
from bilevel.model.regularisers import Regulariser
from bilevel.solve.solvers import LBFGS
from bilevel.solve.solvers.lbfgs import LBFGSState

H, W = 19, 16


def dense(linear: LinearMap, c: int = 1) -> Tensor:
    n = c * H * W
    columns = torch.eye(n, dtype=torch.float64).view(n, c, H, W)
    return torch.stack([linear(v[None]).flatten() for v in columns])


def ridge(**options: bool) -> bl.regularisers.RidgeRegulariser:
    torch.manual_seed(3)
    banks = [torch.randn(4, 1, 5, 5), torch.randn(16, 4, 3, 3)]
    return bl.regularisers.RidgeRegulariser(banks, 2.0, 200.0, 4.0, **options).double()


REGULARISERS = {
    "ridge": ridge,
    "weakly convex ridge": lambda: ridge(weakly_convex=True),
    "tikhonov": lambda: bl.regularisers.Tikhonov(0.3).double(),
}


@pytest.fixture(params=REGULARISERS)
def regulariser(request: pytest.FixtureRequest) -> Regulariser:
    return REGULARISERS[request.param]()


@torch.no_grad()
def test_the_diagonal_is_that_of_the_majoriser(regulariser: Regulariser) -> None:
    x = torch.rand(1, 1, H, W, dtype=torch.float64)
    stencils = regulariser.stencils(x)
    assert stencils is not None
    found = sum(part.diagonal(x.shape) for part in stencils)
    assert isinstance(found, Tensor)
    exact = dense(regulariser.majoriser(x)).diagonal().view_as(x)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(found[inner], exact[inner], rtol=1e-10, atol=0)


@torch.no_grad()
def test_the_symbol_holds_the_eigenvalues_of_the_circulant(regulariser: Regulariser) -> None:
    x = torch.rand(1, 1, H, W, dtype=torch.float64)
    weight = torch.rand(1, 1, H, W, dtype=torch.float64)
    (part,) = regulariser.stencils(x) or []
    found = part.symbol(weight)
    share = (weight * part.weights).mean((2, 3))
    padded = torch.zeros(*part.filters.shape[:2], H, W, dtype=torch.float64)
    for i in range(part.filters.shape[2]):
        for j in range(part.filters.shape[3]):
            padded[..., i % H, j % W] += part.filters[..., i, j]
    power = torch.fft.rfft2(padded).abs().square()
    torch.testing.assert_close(found, torch.einsum("bm,mchw->bchw", share, power))


@pytest.mark.parametrize("boundary", ["circular", "zero", "reflecting"])
def test_convolutions_masks_and_channels(boundary: str) -> None:
    x = torch.rand(2, 3, H, W, dtype=torch.float64)
    kernel = torch.rand(3, 4, 3, dtype=torch.float64)
    convolution = bl.operators.Convolution(kernel, boundary)  # pyright: ignore[reportArgumentType]
    mask = bl.operators.Mask(torch.rand(3, H, W, dtype=torch.float64))
    for operator in (convolution, mask):
        gram = operator.gram_stencil(x)
        exact = dense(LinearMap.shared(lambda v: operator.adjoint(operator(v))), 3).diagonal()  # noqa: B023
        inner = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(gram.diagonal(x.shape)[0][inner], exact.view(3, H, W)[inner])


@torch.no_grad()
def test_a_circulant_energy_is_inverted_exactly() -> None:
    kernel = torch.rand(3, 3, dtype=torch.float64)
    blur = bl.operators.Convolution(kernel / kernel.sum(), "circular")
    energy = bl.Variational(bl.fidelities.SquaredL2(blur), bl.regularisers.Tikhonov(0.1)).double()
    y = torch.rand(2, 1, H, W, dtype=torch.float64)
    made = energy.preconditioner(y, y)
    assert made is not None
    torch.testing.assert_close(made(energy.hessian(y, y)(y)), y)


@torch.no_grad()
def test_it_is_positive_definite_and_row_by_row(regulariser: Regulariser) -> None:
    x = torch.rand(2, 1, H, W, dtype=torch.float64)
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser).double()
    made = energy.preconditioner(x, x)
    assert made is not None
    second = made.as_map().rows(torch.tensor([1]))
    torch.testing.assert_close(second(x[1:]), made(x)[1:])
    matrix = dense(second)
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0


def test_systems_are_solved_in_fewer_steps() -> None:
    torch.manual_seed(0)
    y = torch.rand(3, 1, 48, 40, dtype=torch.float64)
    lower = bl.Variational(bl.fidelities.SquaredL2(), ridge()).double().at(y)
    hessian = lower.hessian(0.1 * y)
    fast, slow = (cg(a, y, rtol=1e-8) for a in (hessian, hessian.without_inverse()))
    assert bool((fast.converged & slow.converged).all())
    torch.testing.assert_close(fast.x, slow.x, rtol=1e-5, atol=1e-7)
    assert int(fast.steps.max()) < 0.8 * int(slow.steps.min())


@pytest.mark.parametrize("weakly_convex", [False, True])
def test_lbfgs_ends_at_the_same_point_in_fewer_passes(weakly_convex: bool) -> None:
    torch.manual_seed(0)
    y = torch.rand(2, 1, 48, 40, dtype=torch.float64)
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge(weakly_convex=weakly_convex)).double()
    found, passes = [], []
    for precondition in (True, False):
        cost = bl.Cost()
        solution = bl.minimise(
            energy.at(y, cost=cost),
            LBFGS(precondition=precondition),
            tol=bl.Tolerance(residual=1e-7),
        )
        found.append(solution.require().x)
        passes.append(cost.operator_applications)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)
    assert passes[0] < 0.8 * passes[1]


STATES = {
    "tgv": lambda **o: bl.regularisers.TotalGeneralisedVariation(0.2, 2.0, 0.05, **o),
    "ictv": lambda **o: bl.regularisers.InfimalConvolutionTV(0.2, 2.0, 0.05, **o),
}


@torch.no_grad()
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_channels_of_states_are_tied_to_one_another(name: str, coupled: bool) -> None:
    """F has the entries of the majoriser where all weights are one, away from the border."""
    term = STATES[name](coupled=coupled).double()
    c = (1 + coupled) * (1 + term.further)
    x = torch.zeros(1, c, H, W, dtype=torch.float64)
    matrix = sum(part.matrix(torch.ones_like(x)) for part in term.stencils(x))
    assert isinstance(matrix, Tensor)
    units = torch.zeros(c, c, H, W, dtype=torch.float64)
    units[range(c), range(c), 9, 8] = 1
    images = torch.fft.rfft2(term.majoriser(x.expand_as(units))(units))
    phase = torch.fft.rfft2(units[:1, :1])
    torch.testing.assert_close(matrix[0].movedim((2, 3), (1, 0)), images / phase)


@torch.no_grad()
@pytest.mark.parametrize("name", STATES)
def test_preconditioners_of_states_are_positive_definite_and_row_by_row(name: str) -> None:
    y = torch.rand(2, 1, 7, 6, dtype=torch.float64)
    energy = bl.Variational(bl.fidelities.SquaredL2(), STATES[name]()).double()
    x = torch.rand(energy.start(y).shape, dtype=torch.float64)
    made = energy.preconditioner(x, y)
    assert made is not None
    second = made.as_map().rows(torch.tensor([1]))
    torch.testing.assert_close(second(x[1:]), made(x)[1:])
    units = torch.eye(x[0].numel(), dtype=torch.float64).reshape(-1, *x.shape[1:])
    matrix = torch.cat([second(v[None]).flatten(1) for v in units])
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0


@pytest.mark.parametrize("name", STATES)
def test_lbfgs_needs_fewer_steps_in_wide_states(name: str) -> None:
    torch.manual_seed(0)
    y = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    energy = bl.Variational(bl.fidelities.SquaredL2(), STATES[name]()).double()
    steps = [
        int(bl.minimise(energy.at(y), LBFGS(precondition=p), tol=bl.Tolerance(rms=1e-2)).steps[0])
        for p in (True, False)
    ]
    assert steps[0] < 0.9 * steps[1]


def test_where_it_does_not_pay_there_is_none() -> None:
    tv = bl.regularisers.TotalVariation(0.1, 0.01)
    y = torch.rand(1, 1, H, W)
    assert bl.Variational(bl.fidelities.SquaredL2(), tv).at(y).preconditioner(y) is None


@torch.no_grad()
def test_wide_filters_give_the_diagonal_of_cells() -> None:
    torch.manual_seed(5)
    filters = torch.randn(6, 1, 13, 11, dtype=torch.float64)
    cells = torch.rand(2, 6, 12, 15, dtype=torch.float64)
    weights = cells.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = Stencil(filters, weights).diagonal(torch.Size((2, 1, 24, 30)))
    padded = torch.nn.functional.conv_transpose2d(weights, filters.square(), padding=(6, 5))
    means = torch.nn.functional.avg_pool2d(padded, 2)
    torch.testing.assert_close(found, means.repeat_interleave(2, 2).repeat_interleave(2, 3))
    odd = Stencil(filters, weights[..., :23, :29]).diagonal(torch.Size((2, 1, 23, 29)))
    assert odd.shape == (2, 1, 23, 29)


def test_a_tiny_image_wraps_round() -> None:
    x = torch.rand(1, 1, 3, 2, dtype=torch.float64)
    parts = ridge().stencils(x)
    assert bool(torch.isfinite(Preconditioner.of(parts, x)(x)).all())


def test_a_kept_state_goes_with_its_preconditioner() -> None:
    torch.manual_seed(2)
    y = torch.rand(3, 1, 24, 24, dtype=torch.float64)
    y[1] = 0.5  # done much sooner than the others
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge()).double()
    lower, tol = energy.at(y), bl.Tolerance(residual=1e-6)
    solution = bl.minimise(lower, LBFGS(), tol=tol, keep_state=True).require()
    assert len(set(solution.steps.tolist())) > 1
    assert isinstance(solution.state, LBFGSState)
    memory = solution.state.memory
    assert memory.inverse is not None
    g = torch.rand_like(y)
    first = memory.apply(g)
    index = torch.tensor([2])
    torch.testing.assert_close(rows.take(memory, index).apply(g[index]), first[index])
    turn = memory.turns[:, int(memory.age[0].argmax())].view_as(y)
    newest = memory.moves[:, int(memory.age[0].argmax())].view_as(y)
    torch.testing.assert_close(memory.apply(turn)[0], newest[0])  # the secant equation


def test_a_renewal_without_a_new_pair_forgets_the_old_scale() -> None:
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    made = Preconditioner.of([Stencil.identity(x).times(torch.tensor(4.0).double())], x)
    memory = Memory.empty(x, 2, torch.full((2,), 1e-3, dtype=torch.float64)).renewed(made)
    torch.testing.assert_close(memory.scaled(x), x / 4)
    torch.testing.assert_close(memory.apply(x), x / 4)


def test_states_of_different_structure_are_not_mixed() -> None:
    x = torch.rand(2, 1, 4, 4)
    made = Preconditioner.of([Stencil.identity(x)], x)
    bare, full = (Memory.empty(x, 2, torch.ones(2), m) for m in (None, made))
    with pytest.raises(TypeError, match="do not fit"):
        rows.put(bare, torch.tensor([0]), rows.take(full, torch.tensor([0])))
