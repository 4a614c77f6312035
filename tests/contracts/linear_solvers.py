"""What every linear solver promises, whatever its method. A suite names its ``solve``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.rows import norm
from bilevel.linear import LinearMap, LinearSolution, LinearStatus

DTYPES = [torch.float32, torch.float64]
SCALES = [1e-30, 1e-10, 1.0, 1e10, 1e30]


def dense(matrices: Tensor) -> LinearMap:
    """One matrix a row, (b, n, n)."""
    return LinearMap.per_row(lambda v, rows: (matrices[rows] @ v[..., None])[..., 0], len(matrices))


def diagonal(*rows: list[float], dtype: torch.dtype = torch.float64) -> LinearMap:
    """One diagonal a row."""
    scales = torch.tensor(rows, dtype=dtype)
    return LinearMap.per_row(lambda v, index: scales[index] * v, len(scales))


def laplacian(weights: Tensor) -> LinearMap:
    """Row k is weights[k] + a circular Laplacian on images: the same bits for any batch."""

    def apply(v: Tensor, rows: Tensor) -> Tensor:
        sides = v.roll(1, -1) + v.roll(-1, -1) + v.roll(1, -2) + v.roll(-1, -2)
        return weights[rows, None, None, None] * v + 4 * v - sides

    return LinearMap.per_row(apply, len(weights))


def spectral(eigenvalues: Tensor) -> Tensor:
    """Random symmetric matrices (b, n, n) with those eigenvalues (b, n)."""
    basis = torch.linalg.qr(torch.randn(*eigenvalues.shape, eigenvalues.shape[1]).double())[0]
    return (basis * eigenvalues[:, None, :]) @ basis.mT


def spread(b: int, n: int, condition: float) -> Tensor:
    """Eigenvalues (b, n) log-uniform in [1 / condition, 1], both ends included."""
    values = condition ** -torch.rand(b, n).double()
    values[:, 0], values[:, -1] = 1.0, 1 / condition
    return values


def square(singular_values: Tensor) -> Tensor:
    """Random matrices (b, n, n), not symmetric, with those singular values (b, n)."""
    n = singular_values.shape[1]
    left, right = (
        torch.linalg.qr(torch.randn(*singular_values.shape, n).double())[0] for _ in range(2)
    )
    return (left * singular_values[:, None, :]) @ right


class Recorded:
    """A map that remembers how many rows each application had."""

    def __init__(self, inside: LinearMap) -> None:
        self.sizes: list[int] = []
        self.map = self._of(inside)

    def _of(self, inside: LinearMap) -> LinearMap:
        def apply(v: Tensor) -> Tensor:
            self.sizes.append(len(v))
            return inside(v)

        return LinearMap(apply, lambda index: self._of(inside.rows(index)))


SYSTEMS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "b": st.integers(1, 5),
        "n": st.integers(2, 14),
        "condition": st.sampled_from([1.0, 10.0, 100.0]),
        "dtype": st.sampled_from(DTYPES),
    }
)


@dataclass(frozen=True)
class Random:
    """b random systems of size n, definite or with as many negative eigenvalues as positive."""

    seed: int
    b: int
    n: int
    condition: float
    dtype: torch.dtype

    def check(self, solve: Callable[..., LinearSolution], *, definite: bool) -> None:
        """The solution is that of a dense factorisation, as far as the tolerance promises."""
        torch.manual_seed(self.seed)
        eigenvalues = spread(self.b, self.n, self.condition)
        eigenvalues[:, self.n // 2 :] *= 1 if definite else -1
        matrices, b = spectral(eigenvalues), torch.randn(self.b, self.n, dtype=self.dtype)
        rtol = 1e-10 if self.dtype == torch.float64 else 1e-4
        solution = solve(dense(matrices.to(self.dtype)), b, rtol=rtol).require()
        error = norm(solution.x - torch.linalg.solve(matrices, b.double()))
        rounding = 20 * torch.finfo(self.dtype).eps * self.condition**2
        assert bool((error <= (1.1 * self.condition * rtol + rounding) * norm(b)).all())


@dataclass(frozen=True)
class RandomSquare:
    """b random systems I + N of size n with ‖N‖ < 1: what differentiating a contraction gives."""

    seed: int
    b: int
    n: int
    condition: float
    dtype: torch.dtype

    def check(self, solve: Callable[..., LinearSolution]) -> None:
        """The solution is that of a dense factorisation, as far as the tolerance promises."""
        torch.manual_seed(self.seed)
        rate = 1 - 1 / (1 + self.condition)
        matrices = torch.eye(self.n) - rate * square(spread(self.b, self.n, 2.0))
        b = torch.randn(self.b, self.n, dtype=self.dtype)
        rtol = 1e-10 if self.dtype == torch.float64 else 1e-4
        solution = solve(dense(matrices.to(self.dtype)), b, rtol=rtol).require()
        error = norm(solution.x - torch.linalg.solve(matrices, b.double()))
        least = torch.linalg.svdvals(matrices)[:, -1]
        rounding = 20 * torch.finfo(self.dtype).eps * (2 / least) ** 2
        assert bool((error <= (1.1 * rtol / least + rounding) * norm(b)).all())


class LinearSolverContract:
    """Inherit, and set ``solve`` as a static method."""

    solve: Callable[..., LinearSolution]
    per_step = 1
    """Applications a step."""

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_residual_is_that_of_the_returned_x(self, dtype: torch.dtype) -> None:
        matrices = spectral(spread(6, 20, 1e3)).to(dtype)
        operator, b = dense(matrices), torch.randn(6, 20, dtype=dtype)
        for max_steps in (0, 1, 7, 500):
            solution = self.solve(operator, b, rtol=1e-4, max_steps=max_steps)
            torch.testing.assert_close(solution.residual, norm(b - operator(solution.x)))
            assert solution.residual.dtype == solution.x.dtype == dtype

    def test_stops_for_lack_of_steps_and_says_so(self) -> None:
        operator, b = dense(spectral(spread(3, 30, 1e4))), torch.randn(3, 30).double()
        solution = self.solve(operator, b, rtol=1e-8, max_steps=5)
        assert solution.status.tolist() == [LinearStatus.MAX_STEPS] * 3
        assert solution.steps.tolist() == [5] * 3
        assert not bool(solution.converged.any())
        with pytest.raises(NotCertified, match=r"row 2: MAX_STEPS.*raise max_steps"):
            solution.require()

    def test_no_steps_at_all(self) -> None:
        solution = self.solve(diagonal([1.0, 2.0]), torch.ones(1, 2).double(), max_steps=0)
        assert solution.status.tolist() == [LinearStatus.MAX_STEPS]
        assert solution.steps.tolist() == [0]
        assert solution.applications == 0

    def test_a_tolerance_below_rounding_is_not_met(self) -> None:
        operator = dense(spectral(spread(4, 20, 100.0)).float())
        solution = self.solve(operator, torch.randn(4, 20), rtol=1e-12)
        assert solution.status.tolist() == [LinearStatus.STALLED] * 4
        assert bool((solution.residual < 1e-4).all())
        with pytest.raises(NotCertified, match="float64"):
            solution.require()

    def test_an_estimate_that_drifted_is_not_believed(self) -> None:
        coarse = dense(spectral(spread(4, 20, 1e3)))
        operator = LinearMap.per_row(lambda v, rows: coarse.rows(rows)(v).bfloat16().double(), 4)
        b = torch.randn(4, 20).double()
        solution = self.solve(operator, b, rtol=1e-10)
        assert not bool(solution.converged.any())
        torch.testing.assert_close(solution.residual, norm(b - operator(solution.x)))

    def test_restarts_until_the_true_residual_is_low(self) -> None:
        operator, b = dense(spectral(spread(200, 30, 1e3)).float()), torch.randn(200, 30)
        solution = self.solve(operator, b, rtol=5e-5).require()
        assert bool((norm(b - operator(solution.x)) <= 5e-5 * norm(b)).all())

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_without_tolerance_goes_down_to_rounding(self, dtype: torch.dtype) -> None:
        operator, b = dense(spectral(spread(20, 20, 10.0)).to(dtype)), torch.randn(20, 20).to(dtype)
        solution = self.solve(operator, b)
        assert solution.status.tolist() == [LinearStatus.STALLED] * 20
        assert bool((solution.residual <= 20 * torch.finfo(dtype).eps * norm(b)).all())
        assert int(solution.steps.max()) < 100

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("factor", [1e-6, 1.0, 3.0, 7e5])
    @pytest.mark.parametrize("n", [1, 50])
    def test_a_multiple_of_the_identity_takes_one_step(
        self, dtype: torch.dtype, factor: float, n: int
    ) -> None:
        b = torch.randn(5, n, dtype=dtype)
        solution = self.solve(LinearMap.shared(lambda v: factor * v), b, rtol=1e-6).require()
        assert solution.steps.tolist() == [1] * 5
        torch.testing.assert_close(solution.x, b / factor)

    def test_zero_right_hand_side(self) -> None:
        b = torch.ones(3, 4).double()
        b[1] = 0
        operator = dense(spectral(spread(3, 4, 10.0)))
        for x0 in (None, torch.randn(3, 4).double()):
            solution = self.solve(operator, b, rtol=1e-8, x0=x0).require()
            assert solution.x[1].tolist() == [0.0] * 4
            assert (int(solution.steps[1]), float(solution.residual[1])) == (0, 0.0)
            assert int(solution.steps[0]) > 0

    def test_zero_right_hand_side_with_no_tolerance(self) -> None:
        solution = self.solve(diagonal([1.0, 2.0]), torch.zeros(1, 2).double()).require()
        assert (solution.x.tolist(), solution.applications) == ([[0.0, 0.0]], 0)

    def test_an_exact_start_takes_no_steps(self) -> None:
        operator, exact = diagonal([1.0, 2.0, 4.0]), torch.tensor([[1.0, 2.0, 3.0]]).double()
        solution = self.solve(operator, operator(exact), x0=exact).require()
        assert (solution.steps.tolist(), solution.applications) == ([0], 1)
        assert torch.equal(solution.x, exact)

    def test_a_close_start_saves_steps_and_is_left_alone(self) -> None:
        operator, exact = dense(spectral(spread(4, 40, 1e3))), torch.randn(4, 40).double()
        start = exact + 1e-6 * torch.randn(4, 40).double()
        kept = start.clone()
        cold = self.solve(operator, operator(exact), atol=1e-7).require()
        warm = self.solve(operator, operator(exact), atol=1e-7, x0=start).require()
        assert bool((warm.steps < cold.steps).all())
        assert torch.equal(start, kept)

    def test_rows_have_their_own_tolerance_and_leave(self) -> None:
        recorded = Recorded(laplacian(torch.full((3,), 0.1).double()))
        b = torch.randn(1, 1, 16, 23).double().expand(3, -1, -1, -1)
        rtol = torch.tensor([1e-1, 1e-4, 1e-10]).double()
        solution = self.solve(recorded.map, b, rtol=rtol).require()
        assert solution.steps.tolist() == sorted(set(solution.steps.tolist()))
        assert sum(recorded.sizes) == solution.applications
        assert solution.applications < 3 * self.per_step * int(solution.steps.max())
        assert bool((solution.residual <= rtol * norm(b)).all())

    def test_the_larger_tolerance_counts(self) -> None:
        operator = laplacian(torch.full((2,), 0.1).double())
        b = torch.randn(2, 1, 16, 23).double()
        tight = self.solve(operator, b, atol=1e-9).require()
        loose = self.solve(operator, b, rtol=1e-12, atol=torch.tensor([1e-9, 1e-1]).double())
        same = self.solve(operator, b, rtol=1e-9 / norm(b), atol=1e-9)
        assert same.steps.tolist() == tight.steps.tolist()
        assert int(loose.steps[0]) == int(tight.steps[0])
        assert int(loose.steps[1]) < int(tight.steps[1])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_batch_gives_what_its_rows_give_alone(self, dtype: torch.dtype) -> None:
        weights = torch.tensor([0.01, 0.3, 2.0, 50.0], dtype=dtype)
        operator, b = laplacian(weights), torch.randn(4, 2, 6, 5, dtype=dtype)
        x0 = torch.randn(4, 2, 6, 5, dtype=dtype)
        together = self.solve(operator, b, rtol=1e-4, x0=x0)
        for k in range(4):
            row = torch.tensor([k])
            alone = self.solve(operator.rows(row), b[row], rtol=1e-4, x0=x0[row])
            assert torch.equal(alone.x, together.x[row])
            assert torch.equal(alone.residual, together.residual[row])
            assert torch.equal(alone.steps, together.steps[row])

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_scale_of_the_right_hand_side(self, dtype: torch.dtype) -> None:
        operator, b = dense(spectral(spread(3, 20, 100.0)).to(dtype)), torch.randn(3, 20)
        rtol = 1e-8 if dtype == torch.float64 else 1e-4
        unit = self.solve(operator, b.to(dtype), rtol=rtol).require()
        for scale in SCALES:
            solution = self.solve(operator, scale * b.to(dtype), rtol=rtol).require()
            error = norm((solution.x / scale - unit.x).double()) / norm(unit.x.double())
            assert bool((error <= 300 * rtol).all())

    def test_scale_by_a_power_of_two_is_exact(self) -> None:
        operator, b = dense(spectral(spread(3, 20, 100.0)).float()), torch.randn(3, 20)
        unit = self.solve(operator, b, rtol=1e-4).require()
        solution = self.solve(operator, b * 2.0**-90, rtol=1e-4, x0=0 * b).require()
        assert torch.equal(solution.x * 2.0**90, unit.x)

    @pytest.mark.parametrize("scale", [1e-15, 1e15])
    def test_scale_of_the_operator(self, scale: float) -> None:
        matrices = scale * spectral(spread(3, 20, 100.0)).float()
        self.solve(dense(matrices), torch.randn(3, 20), rtol=1e-4).require()

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_an_operator_that_is_not_finite(self, bad: float) -> None:
        operator, b = diagonal([1.0, 2.0], [bad, 1.0], [3.0, 1.0]), torch.ones(3, 2).double()
        solution = self.solve(operator, b, rtol=1e-8)
        expected = [LinearStatus.CONVERGED, LinearStatus.DIVERGED, LinearStatus.CONVERGED]
        assert solution.status.tolist() == expected
        assert bool(torch.isfinite(solution.x).all())
        warm = self.solve(operator, b, rtol=1e-8, x0=torch.ones(3, 2).double())
        assert warm.status.tolist() == expected
        assert float(warm.residual[1]) == torch.inf

    def test_an_operator_that_fails_on_the_way(self) -> None:
        count = 0

        def apply(v: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return v * torch.arange(1, 31) if count < 5 else v * torch.nan

        b = torch.randn(1, 30).double()
        solution = self.solve(LinearMap.shared(apply), b, rtol=1e-12)
        assert solution.status.tolist() == [LinearStatus.DIVERGED]
        assert bool(torch.isfinite(solution.x).all())

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_a_right_hand_side_that_is_not_finite(self, bad: float) -> None:
        b = torch.tensor([[1.0, 1.0], [bad, 1.0]]).double()
        solution = self.solve(diagonal([1.0, 2.0], [1.0, 2.0]), b, rtol=1e-8, atol=torch.inf)
        assert solution.status.tolist() == [LinearStatus.CONVERGED, LinearStatus.DIVERGED]
        assert float(solution.residual[1]) == torch.inf
        assert bool(torch.isfinite(solution.x).all())

    def test_a_solution_beyond_the_largest_number(self) -> None:
        operator = diagonal([1e-20, 1e-20], dtype=torch.float32)
        solution = self.solve(operator, torch.full((1, 2), 1e30), rtol=1e-3)
        assert not bool(solution.converged.any())
        assert bool(torch.isfinite(solution.x).all())

    def test_keeps_no_tape(self) -> None:
        b = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
        solution = self.solve(diagonal([1.0, 2.0]), b, rtol=1e-8, x0=b)
        assert not solution.x.requires_grad
        assert not solution.residual.requires_grad

    def test_no_rows(self) -> None:
        solution = self.solve(LinearMap.shared(lambda v: v), torch.ones(0, 3), rtol=1e-3).require()
        assert (solution.x.shape, solution.applications) == ((0, 3), 0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"b": torch.ones(3)}, r"b\[None\]"),
            ({"b": torch.ones(1, 3).long()}, "float32 or float64"),
            ({"x0": torch.ones(1, 3)}, r"shape \(2, 3\) of b"),
            ({"x0": torch.ones(2, 3).double()}, "float64"),
            ({"x0": torch.full((2, 3), torch.nan)}, "x0 must be finite"),
            ({"rtol": -1.0}, "rtol must not be negative"),
            ({"atol": torch.tensor([0.0, torch.nan])}, "atol must not be negative or NaN"),
            ({"atol": torch.ones(3)}, "each of the 2 rows"),
            ({"max_steps": -1}, "max_steps must not be negative"),
            ({"operator": LinearMap.shared(lambda v: v[:, :1])}, "keep shape"),
            ({"operator": LinearMap.shared(lambda v: v.double())}, "keep shape and dtype"),
        ],
    )
    def test_input_that_does_not_fit(self, arguments: dict[str, object], message: str) -> None:
        good = {"operator": LinearMap.shared(lambda v: v), "b": torch.ones(2, 3)}
        with pytest.raises(InputError, match=message):
            self.solve(**{**good, **arguments})
