"""Deep equilibrium models: fixed points, implicit gradients, memory, digits and denoising."""

from __future__ import annotations

import doctest
import importlib
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.rows import norm

sys.path.insert(0, str(Path(__file__).parents[2] / "reproductions" / "bai-2019-equilibrium"))

from deep_equilibrium import denoising, layer, memory, solvers
from deep_equilibrium.layer import DeepEquilibrium
from deep_equilibrium.networks import (
    Classifier,
    ConvolutionCell,
    Denoiser,
    DenseCell,
)
from deep_equilibrium.solvers import (
    Anderson,
    Broyden,
    Method,
    Picard,
    Status,
    solve_fixed_point,
)

METHODS = [Picard(), Anderson(), Broyden()]
BACKWARD = DeepEquilibrium.SOLVERS


def named(method: Method) -> str:
    return type(method).__name__


def cell(contraction: float = 0.9) -> DenseCell:
    made = DenseCell(3, 6, contraction).double()
    made.weight.data *= 5
    return made


def layer_of(module: nn.Module, **options: object) -> DeepEquilibrium:
    tight = {"rtol": 1e-12, "backward_rtol": 1e-12, "max_steps": 500, "backward_max_steps": 500}
    return DeepEquilibrium(module, lambda y: y.new_zeros(len(y), 6), **{**tight, **options})


class Linear:
    """Each row its own affine map z -> M_k z + c_k, whose fixed point is known."""

    def __init__(self, radii: list[float], n: int = 5) -> None:
        turn = torch.linalg.qr(torch.randn(len(radii), n, n, dtype=torch.float64))[0]
        self.m = torch.tensor(radii, dtype=torch.float64)[:, None, None] * turn
        self.c = torch.randn(len(radii), n, dtype=torch.float64)
        self.exact = torch.linalg.solve(torch.eye(n, dtype=torch.float64) - self.m, self.c)

    def __call__(self, z: Tensor, rows: Tensor) -> Tensor:
        return (self.m[rows] @ z[..., None])[..., 0] + self.c[rows]


@pytest.mark.parametrize("method", METHODS, ids=named)
class TestSolvers:
    def test_finds_the_fixed_points_of_affine_maps(self, method: Method) -> None:
        f = Linear([0.1, 0.5, 0.8])
        found = solve_fixed_point(f, 0 * f.c, method, atol=1e-10, max_steps=200)
        assert found.converged.all()
        assert (norm(found.z - f.exact) <= 1e-10 / 0.2).all()

    def test_the_residual_belongs_to_the_returned_point(self, method: Method) -> None:
        f = Linear([0.1, 0.5, 0.99])
        found = solve_fixed_point(f, 0 * f.c, method, rtol=1e-6, max_steps=4)
        again = norm(f(found.z, torch.arange(3)) - found.z)
        assert torch.allclose(found.residual, again, rtol=1e-9, atol=1e-14)
        met = again <= 1e-6 * norm(f(found.z, torch.arange(3)))
        assert torch.equal(found.converged, met)
        assert not found.converged.all()

    def test_rows_are_independent(self, method: Method) -> None:
        f = Linear([0.2, 0.9, 0.6])
        together = solve_fixed_point(f, 0 * f.c, method, atol=1e-8, max_steps=200)
        for k in range(3):
            alone = solve_fixed_point(
                lambda z, rows, k=k: f(z, rows + k), 0 * f.c[k : k + 1], method, atol=1e-8,
                max_steps=200,
            )  # fmt: skip
            assert int(alone.steps[0]) == int(together.steps[k])
            assert torch.allclose(alone.z[0], together.z[k], rtol=0, atol=1e-9)

    def test_a_row_that_overflows_does_not_spoil_the_others(self, method: Method) -> None:
        f = Linear([0.5, 0.5])

        def broken(z: Tensor, rows: Tensor) -> Tensor:
            return torch.where((rows == 1)[:, None], torch.nan, f(z, rows))

        found = solve_fixed_point(broken, 0 * f.c, method, atol=1e-9)
        assert found.status.tolist() == [Status.CONVERGED, Status.DIVERGED]
        assert torch.isfinite(found.z).all()
        with pytest.raises(NotCertified, match="row 1: DIVERGED, residual inf"):
            found.require()

    def test_a_start_that_is_a_fixed_point_takes_no_step(self, method: Method) -> None:
        found = solve_fixed_point(lambda z, rows: z, torch.ones(2, 3), method, max_steps=0)
        assert found.steps.tolist() == [0, 0]
        assert found.converged.all()
        assert found.require() is found
        assert found.evaluations == 2


@pytest.mark.parametrize("method", [Anderson(memory=6), Broyden(memory=30)], ids=named)
def test_acceleration_needs_far_fewer_steps_than_picard(method: Method) -> None:
    f = Linear([0.99, 0.98])
    fast = solve_fixed_point(f, 0 * f.c, method, atol=1e-8, max_steps=2000)
    slow = solve_fixed_point(f, 0 * f.c, Picard(), atol=1e-8, max_steps=5000)
    assert fast.converged.all()
    assert slow.converged.all()
    assert int(slow.steps.min()) > 20 * int(fast.steps.max())


@pytest.mark.parametrize("method", [Anderson(memory=6), Broyden(memory=30)], ids=named)
def test_acceleration_also_solves_where_picard_diverges(method: Method) -> None:
    f = Linear([3.0, 1.5])
    assert not solve_fixed_point(f, 0 * f.c, Picard(), atol=1e-8).converged.any()
    found = solve_fixed_point(f, 0 * f.c, method, atol=1e-8)
    assert torch.allclose(found.require().z, f.exact, atol=1e-6)


@pytest.mark.parametrize("memory_size", [1, 2])
def test_broyden_starts_afresh_when_its_memory_is_full(memory_size: int) -> None:
    f = Linear([0.6, 0.3])
    found = solve_fixed_point(f, 0 * f.c, Broyden(memory_size), atol=1e-9, max_steps=300)
    assert found.converged.all()
    assert int(found.steps.max()) > memory_size + 1


@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_implicit_gradients_are_those_of_an_unrolled_iteration(
    method: Method, backward: str
) -> None:
    module, y = cell(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 6, dtype=torch.float64)
    inputs = [y, *module.parameters()]
    found = layer_of(module, method=method, backward=backward)(y)
    implicit = torch.autograd.grad((weights * found.z).sum(), inputs)
    assert found.solution.converged.all()
    assert found.adjoints[0].converged.all()
    z = torch.zeros(4, 6, dtype=torch.float64)
    for _ in range(400):
        z = module(z, y)
    unrolled = torch.autograd.grad((weights * z).sum(), inputs)
    for a, b in zip(implicit, unrolled, strict=True):
        assert float((a - b).norm()) <= 1e-5 * float(b.norm())
    naive = torch.autograd.grad((weights * module(z.detach(), y)).sum(), inputs)
    assert any(
        float((a - b).norm()) > 1e-2 * float(b.norm()) for a, b in zip(naive, unrolled, strict=True)
    )


@pytest.mark.parametrize("backward", BACKWARD)
def test_the_backward_tolerance_is_its_own_and_reported(backward: str) -> None:
    module, y = cell(), torch.randn(4, 3, dtype=torch.float64)
    steps = []
    for rtol in (1e-2, 1e-9):
        found = layer_of(module, backward=backward, backward_rtol=rtol)(y)
        v = torch.ones_like(found.z)
        found.z.backward(v)
        adjoint = found.adjoints[0]
        assert (adjoint.residual <= rtol * norm(v)).all()
        steps.append(int(adjoint.steps.max()))
    assert steps[0] < steps[1]


def test_a_backward_pass_that_stopped_early_says_so() -> None:
    found = layer_of(cell(), backward_max_steps=1)(torch.randn(4, 3, dtype=torch.float64))
    found.z.sum().backward()
    assert not found.adjoints[0].converged.any()
    with pytest.raises(NotCertified):
        found.adjoints[0].require()


def test_z_is_the_point_whose_residual_is_reported_and_no_tape_without_grad() -> None:
    layer, y = layer_of(cell(), rtol=1e-3), torch.randn(4, 3, dtype=torch.float64)
    found = layer(y)
    assert torch.equal(found.z.detach(), found.solution.z)
    with torch.no_grad():
        again = layer(y)
    assert not again.z.requires_grad
    assert torch.equal(again.z, found.solution.z)
    assert int(layer(y, start=found.solution.z).solution.steps.max()) == 0


def test_second_derivatives_are_refused() -> None:
    y = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    total = layer_of(cell())(y).z.sum()
    with pytest.raises(InputError, match="first derivatives only"):
        torch.autograd.grad(total, y, create_graph=True)


@pytest.mark.parametrize("contraction", [0.5, 0.95])
def test_cells_contract_whatever_their_weights(contraction: float) -> None:
    dense, images = cell(contraction), ConvolutionCell(1, 4, contraction).double()
    images.weight.data *= 20
    for module, z, y in (
        (dense, torch.zeros(1, 6), torch.zeros(1, 3)),
        (images, torch.zeros(1, 4, 5, 5), torch.zeros(1, 1, 5, 5)),
    ):
        module.inject.bias.data.zero_()
        jacobian = torch.autograd.functional.jacobian(
            partial(module, y=y.double()), z.double()
        ).view(z.numel(), z.numel())
        size = float(torch.linalg.matrix_norm(jacobian, 2))
        assert 0.2 * contraction < size <= contraction * (1 + 1e-12)


@pytest.mark.parametrize("module", [layer, solvers], ids=lambda m: m.__name__)
def test_the_examples_in_the_docstrings_run(module: ModuleType) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    found = doctest.testmod(module, optionflags=flags)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_tape_does_not_grow_with_the_iterations() -> None:
    module = ConvolutionCell(1, 4)
    y, start = torch.rand(2, 1, 8, 8), torch.zeros(2, 4, 8, 8)

    def size(way: object, k: int) -> int:
        return memory.saved_bytes(lambda: way(module, y, start, k))

    assert size(memory.implicit, 5) == size(memory.implicit, 40)
    growth = size(memory.unrolled, 40) - size(memory.unrolled, 20)
    assert growth >= 20 * start.numel() * start.element_size()
    assert size(memory.implicit, 40) < size(memory.unrolled, 40) / 3


def test_the_memory_figure_is_written(tmp_path: Path) -> None:
    memory.draw([1, 10], {"unrolled": [1.0, 9.0], "implicit": [2.0, 2.0]}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def digits_of_sklearn() -> ModuleType:
    pytest.importorskip("sklearn")
    return importlib.import_module("deep_equilibrium.digits")


def test_a_small_classifier_learns_the_digits() -> None:
    digits = digits_of_sklearn()
    images, held_out, labels, held_out_labels = digits.split()
    assert len(images) + len(held_out) == 1797
    model, setting = Classifier(channels=8), digits.Setting(epochs=4, rate=3e-2, reach=0)
    before = digits.accuracy(model, held_out, held_out_labels)
    failed = digits.train(model, images[:384], labels[:384], setting)
    assert failed == 0
    assert before < 0.4
    assert digits.accuracy(model, held_out, held_out_labels) > 0.7


def test_the_setting_is_chosen_on_training_digits_held_back() -> None:
    digits = digits_of_sklearn()
    images, _, labels, _ = digits.split()
    training, validation, _, expected = digits.held_back(images, labels)
    together = torch.cat([training, validation]).flatten(1)
    assert torch.equal(together.sum(0), images.flatten(1).sum(0))
    assert int(expected.bincount().max()) <= 1.1 * int(expected.bincount().min())
    settings = [digits.Setting(epochs=2, rate=rate) for rate in (1e-7, 1e-2)]
    found = digits.validated(images[:256], labels[:256], settings, channels=4)
    assert found[settings[1]] > found[settings[0]]


def test_images_are_shifted_by_whole_pixels_and_filled_with_zeros() -> None:
    digits = digits_of_sklearn()
    images, source = torch.rand(40, 1, 5, 6) + 1, torch.Generator().manual_seed(0)
    wide, seen = torch.nn.functional.pad(images, [1] * 4), set()
    for own, moved in zip(wide[:, 0], digits.shifted(images, 1, source)[:, 0], strict=True):
        cuts = {(i, j): own[i : i + 5, j : j + 6] for i in range(3) for j in range(3)}
        corner = [corner for corner, cut in cuts.items() if torch.equal(cut, moved)]
        assert len(corner) == 1
        seen |= set(corner)
    assert len(seen) == 9
    assert torch.equal(digits.shifted(images, 0, source), images)


def test_a_small_denoiser_learns_end_to_end() -> None:
    model = Denoiser(channels=4, contraction=0.8)
    target = denoising.crops(torch.rand(1, 1, 1, 1).expand(2, 1, 24, 24), 4, 16, 0)
    y = denoising.noisy(target, 0.2, "test")

    def error() -> float:
        with torch.no_grad():
            return float((model(y)[0] - target).square().mean())

    first = error()
    assert denoising.train(model, target, sigma=0.2, steps=40, side=12) == 0
    assert error() < 0.8 * float((y - target).square().mean())
    assert error() < first


@pytest.mark.parametrize(
    "make",
    [
        lambda: Anderson(memory=0),
        lambda: Anderson(mixing=0.0),
        lambda: Anderson(mixing=1.5),
        lambda: Anderson(ridge=-1.0),
        lambda: Broyden(memory=0),
        lambda: DenseCell(1, 1, contraction=1.0),
        lambda: layer_of(cell(), backward="gmress"),
        lambda: layer_of(cell(), rtol=-1.0),
        lambda: layer_of(cell(), max_steps=0),
        lambda: solve_fixed_point(lambda z, rows: z[:, :1], torch.ones(1, 2), Picard()),
        lambda: solve_fixed_point(lambda z, rows: z, torch.ones(1, 2), Picard(), atol=-1.0),
        lambda: solve_fixed_point(lambda z, rows: z, torch.ones(1, 2), Picard(), max_steps=-1),
    ],
)
def test_wrong_options_are_refused(make: object) -> None:
    with pytest.raises(InputError):
        make()
