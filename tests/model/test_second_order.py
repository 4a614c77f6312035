"""Total generalised variation and infimal convolutions: operators, values, limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.model.operators.operator import Operator, Shape
from bilevel.model.regularisers.second_order import FORM_OF_ICTV, FORM_OF_TGV, Form
from bilevel.model.regularisers.symmetrised import (
    Bends,
    Curves,
    Parting,
    Slopes,
    symmetrised,
    symmetrised_adjoint,
)

R = bl.regularisers
DOUBLE = torch.float64
OPERATORS = (Slopes(), Bends(), Parting(), Curves())
FORMS = {"tgv": FORM_OF_TGV, "ictv": FORM_OF_ICTV}
SIZES = [(1, 1), (1, 5), (2, 2), (3, 2), (6, 8)]


def dense(operator: Operator, shape: Shape) -> Tensor:
    """Columns are the images of all unit images."""
    units = torch.eye(math.prod(shape), dtype=DOUBLE).reshape(-1, *shape)
    return operator.forward(units).flatten(1).T


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("c", [1, 2])
def test_adjoints_are_transposes_and_norms_bounds(
    operator: Operator, size: tuple[int, int], c: int
) -> None:
    shape = (c * operator.wide, *size)  # type: ignore[attr-defined]
    data = operator.data_shape(shape)
    assert operator.image_shape(data) == shape
    matrix = dense(operator, shape)
    units = torch.eye(math.prod(data), dtype=DOUBLE).reshape(-1, *data)
    assert torch.equal(operator.adjoint(units).flatten(1), matrix)
    square = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    bounds = operator.gram_bounds(shape)
    assert bounds.lower == 0.0
    assert square <= bounds.upper * (1 + 1e-12)
    if min(size) >= 6 and not isinstance(operator, (Bends, Curves)):
        assert square == pytest.approx(bounds.upper)
    assert square >= 0.8 * bounds.upper or min(size) < 6


def test_compiled_forms_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    w, q = torch.rand(2, 4, 5, 6, dtype=DOUBLE), torch.rand(2, 6, 5, 6, dtype=DOUBLE)
    before = symmetrised(w), symmetrised_adjoint(q)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close((symmetrised(w), symmetrised_adjoint(q)), before)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("ratio", [0.05, 1.0, 30.0])
def test_joint_bounds_enclose_the_norm_closely(name: str, ratio: float) -> None:
    form: Form = FORMS[name]
    shape = (1 + form.further, 10, 12)
    first, second = dense(form.first, shape), dense(form.second, shape)
    exact = torch.linalg.eigvalsh(first.T @ first + ratio * second.T @ second)[-1]
    one = torch.tensor(1.0, dtype=DOUBLE)
    bound = form.joint_bound(one, ratio * one, shape)
    assert float(exact) <= float(bound) <= 1.5 * float(exact)
    for matrix, parts, norm in zip((first, second), (2, 3), form.row_norms(), strict=True):
        groups = matrix.reshape(parts, 120, -1).transpose(0, 1)
        largest = float(torch.linalg.matrix_norm(groups, 2).max())
        assert norm / 1.01 <= largest <= norm * (1 + 1e-12)


def test_joint_bounds_at_equal_weights_are_those_of_the_literature() -> None:
    one, huge = torch.tensor(1.0, dtype=DOUBLE), (1, 10_000, 10_000)
    tgv, ictv = (form.joint_bound(one, one, huge) for form in (FORM_OF_TGV, FORM_OF_ICTV))
    assert float(tgv) == pytest.approx((17 + math.sqrt(33)) / 2)
    assert float(ictv) == pytest.approx(40 + math.sqrt(1088))


KINDS = {
    "tgv": lambda: R.TotalGeneralisedVariation(0.3, 2.0, 0.01),
    "exact tgv": lambda: R.ExactTotalGeneralisedVariation(0.3, 2.0),
    "ictv": lambda: R.InfimalConvolutionTV(0.3, 2.0, 0.01),
    "exact ictv": lambda: R.ExactInfimalConvolutionTV(0.3, 2.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("name", KINDS)
def test_affine_images_cost_nothing(name: str, dtype: torch.dtype) -> None:
    axes = torch.arange(7.0, dtype=dtype), torch.arange(9.0, dtype=dtype)
    down, right = torch.meshgrid(*axes, indexing="ij")
    u = (0.3 + 0.11 * down - 0.07 * right)[None, None]
    w = bl.operators.Differences()(u)
    state = torch.cat([u, w if "tgv" in name else u + 0.2], 1)
    regulariser = KINDS[name]().to(dtype)
    assert float(regulariser(state).detach()) <= 100 * torch.finfo(dtype).eps
    assert float(regulariser(1.0 * torch.rand_like(state)).detach()) > 1.0


def test_infimal_convolutions_are_generalised_variations_of_gradients() -> None:
    u, v = torch.rand(2, 3, 2, 6, 5, dtype=DOUBLE)
    w = bl.operators.Differences()(v)
    for tgv, ictv in (("tgv", "ictv"), ("exact tgv", "exact ictv")):
        found = KINDS[ictv]().double()(torch.cat([u, v], 1))
        torch.testing.assert_close(found, KINDS[tgv]().double()(torch.cat([u, w], 1)))


@pytest.mark.parametrize("name", KINDS)
def test_coupled_channels_are_lengths_of_all(name: str) -> None:
    """Equal channels cost √2 times one, not twice, where nothing is smoothed."""
    kind, wide = type(KINDS[name]()), 3 if "tgv" in name else 2
    one = torch.rand(1, wide, 6, 5, dtype=DOUBLE)
    both = one.repeat_interleave(2, 1)
    smooth = {} if "exact" in name else {"smoothing": 1e-9}
    apart, together = (kind(0.3, 2.0, **smooth, coupled=c).double() for c in (False, True))
    torch.testing.assert_close(apart(both), 2 * apart(one))
    torch.testing.assert_close(together(both), math.sqrt(2) * apart(one), rtol=1e-6, atol=0)


def image(r: object, y: Tensor) -> tuple[Tensor, float]:
    """The image and the minimum of J, certified."""
    objective = bl.Variational(bl.fidelities.SquaredL2(), r).double().at(y)  # type: ignore[arg-type]
    found = bl.minimise(objective, bl.solvers.NewtonCG(), tol=bl.Tolerance(rms=1e-4))
    return objective.image(found.require().x), float(objective.value(found.x))


@pytest.mark.parametrize("kind", [R.TotalGeneralisedVariation, R.InfimalConvolutionTV])
def test_affine_images_pass_whatever_the_weights(kind: type) -> None:
    y = torch.rand(1, 1, 6, 7, dtype=DOUBLE)
    affine = torch.arange(6.0, dtype=DOUBLE)[:, None] - 0.3 * torch.arange(7.0, dtype=DOUBLE)
    plain, _ = image(kind(0.2, 1.0, 0.1), y)
    moved, _ = image(kind(0.2, 1.0, 0.1), y + affine)
    torch.testing.assert_close(moved - affine, plain, rtol=0, atol=4e-4)


def test_limits_and_order_of_the_minima() -> None:
    """β → 0: nothing but the data; β → ∞: slopes do not bend; TGV <= ICTV <= TV."""
    y = torch.rand(1, 1, 6, 7, dtype=DOUBLE)
    loose, _ = image(R.TotalGeneralisedVariation(0.1, 1e-7, 0.05), y)
    assert float((loose - y).abs().max()) < 1e-3
    for kind, form in (
        (R.TotalGeneralisedVariation, FORM_OF_TGV),
        (R.InfimalConvolutionTV, FORM_OF_ICTV),
    ):
        energy = bl.Variational(bl.fidelities.SquaredL2(), kind(0.1, 1e4, 0.05)).double()
        solver, tol = bl.solvers.NewtonCG(), bl.Tolerance(residual=1e-6)
        state = bl.minimise(energy.at(y), solver, tol=tol).require().x
        bends, slopes = form.second.forward(state), form.first.forward(state)
        assert float(bends.abs().max()) < 1e-3 * float(slopes.abs().max())
    for ratio in (0.5, 2.0):
        _, tgv = image(R.TotalGeneralisedVariation(0.1, ratio, 0.05), y)
        _, ictv = image(R.InfimalConvolutionTV(0.1, ratio, 0.05), y)
        _, tv = image(R.TotalVariation(0.1, 0.05, potential="huber"), y)
        assert tgv <= ictv * (1 + 1e-9) <= tv * (1 + 2e-9)


@pytest.mark.parametrize("kind", [R.TotalGeneralisedVariation, R.InfimalConvolutionTV])
def test_bad_input(kind: type) -> None:
    for options in ({"ratio": 0.0}, {"weight": -1.0}, {"learn": ("beta",)}, {"potential": "tv"}):
        with pytest.raises(bl.InputError):
            kind(**options)
    energy = bl.Variational(bl.fidelities.SquaredL2(), kind())
    with pytest.raises(bl.InputError, match="further for each channel"):
        bl.select(energy, torch.rand(1, 1, 4, 4), bl.rules.GCV())


@pytest.mark.parametrize("name", KINDS)
def test_ratios_are_learned_within_their_box(name: str) -> None:
    kind = type(KINDS[name]())
    box = kind(0.1).sets()["log_ratio"]
    assert (box.lower, box.upper) == (-3.0, 5.0)
    assert kind(0.1, math.exp(6)).sets()["log_ratio"].upper == pytest.approx(6)
