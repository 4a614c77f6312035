from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.ground.errors import InputError, NotCertified
from bilevel.model import SmoothObjective
from bilevel.solve.solvers.lbfgs import LBFGSState
from contracts.rows import rows
from contracts.solvers import SOLVERS
from contracts.zoo import REGULARISERS, make, reference


def denoising(weight: float = 0.1, smoothing: float = 0.05, **options: object) -> bl.Variational:
    tv = bl.regularisers.TotalVariation(weight, smoothing, **options)  # type: ignore[arg-type]
    return bl.Variational(bl.fidelities.SquaredL2(), tv)


SMOOTH = [name for name, solver in SOLVERS.items() if solver.takes is SmoothObjective]


@pytest.mark.parametrize(("solver", "regulariser"), rows(SMOOTH, REGULARISERS, strength=1))
def test_every_solver_reaches_the_minimiser(solver: str, regulariser: str) -> None:
    case = make("circular", regulariser, 3, torch.float64)
    tol = bl.Tolerance(rms=1e-7)
    found = bl.minimise(case.energy.at(case.y), SOLVERS[solver], tol=tol, max_steps=50_000)
    exact = reference(case.energy, found.require().x, case.y)
    assert float((found.x - exact).square().mean().sqrt()) <= 1e-7


def test_strongly_convex_rate() -> None:
    """J(x_k) - J* <= (1 + √q)(1 - √q)^k (L/2)‖x_0 - x̂‖², Chambolle and Pock 2016."""
    case = make("matrix", "tv charbonnier", 5, torch.float64)
    objective = case.energy.at(case.y)
    solver = bl.solvers.Nesterov(momentum="strongly convex", restart=False)
    exact = reference(case.energy, objective.start(), case.y)
    lowest = objective.value(exact)
    mu, lipschitz = objective.bounds.mu, objective.bounds.lipschitz
    root = float((mu / lipschitz).sqrt())
    far = float((objective.start() - exact).square().sum() * lipschitz / 2)
    state = solver.init(objective, objective.start())
    for k in range(1, 200):
        state = solver.step(objective, state)
        gap = float(objective.value(state.x) - lowest)
        assert gap <= min((1 + root) * (1 - root) ** k, 4 / (k + 1) ** 2) * far + 1e-12


def test_backtracking_finds_and_lowers_the_lipschitz_constant() -> None:
    class Unknown(bl.Energy):
        """A quadratic that declares nothing."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 50 * (x - y).square().flatten(1).sum(1)

    y = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    objective = Unknown().at(y)
    solver = bl.solvers.Nesterov(first_lipschitz=1e-3)
    tol = bl.Tolerance(residual=1e-8)
    solution = bl.minimise(objective, solver, torch.zeros_like(y), tol=tol)
    torch.testing.assert_close(solution.require().x, y)
    assert bool((solution.certificate.rms == torch.inf).all()), "nothing is proved about it"
    state = solver.init(objective, torch.zeros_like(y))
    tried = []
    for _ in range(60):
        state = solver.step(objective, state)
        tried.append(float(state.trial[0]))
    assert max(tried) <= 200
    assert min(tried[20:]) < 100 < max(tried)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_of_any_scale(scale: float, dtype: torch.dtype) -> None:
    """Scaling y and ν by s scales the minimiser by s (the weight too, since R is homogeneous)."""
    y = torch.rand(2, 1, 12, 10, dtype=torch.float64).to(dtype)
    plain = bl.minimise(
        denoising(0.1, 0.05).to(dtype).at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-4)
    ).require()
    energy = denoising(0.1 * scale, 0.05 * scale).to(dtype)
    tol = bl.Tolerance(rms=1e-4 * scale)
    scaled = bl.minimise(energy.at(scale * y), bl.solvers.Nesterov(), tol=tol).require()
    difference = (scaled.x / scale - plain.x).double().square().mean().sqrt()
    assert float(difference) <= 2e-4


def test_an_unfinished_solve_says_so() -> None:
    energy, y = denoising(1.0, 1e-3), torch.rand(2, 1, 16, 16)
    solution = bl.minimise(
        energy.at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-4), max_steps=7
    )
    assert solution.status.tolist() == [bl.Status.MAX_STEPS] * 2
    assert solution.steps.tolist() == [7, 7]
    with pytest.raises(NotCertified, match=r"rows \[0, 1\].*MAX_STEPS after 7 steps.*max_steps"):
        solution.require()


def test_the_floor_of_float32_is_told() -> None:
    energy, y = denoising(1.0, 1e-3), torch.rand(1, 1, 16, 16)
    solution = bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-9))
    assert solution.status.tolist() == [bl.Status.STALLED]
    with pytest.raises(NotCertified, match="floating-point floor"):
        solution.require()


def test_without_strong_convexity_no_distance_is_claimed() -> None:
    operator = bl.operators.Mask(torch.rand(8, 8) > 0.5)
    energy = bl.Variational(
        bl.fidelities.SquaredL2(operator), bl.regularisers.TotalVariation(0.1, 0.1)
    )
    y = operator(torch.rand(1, 1, 8, 8))
    solution = bl.minimise(
        energy.at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-2), max_steps=50
    )
    assert solution.certificate.rms.tolist() == [torch.inf]
    with pytest.raises(NotCertified, match="Tikhonov"):
        solution.require()
    bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(residual=1e-4)).require()


def test_quadratic_terms_share_the_fourier_basis() -> None:
    """A blur with a ridge on its own is better conditioned than the sum of both lower bounds."""
    kernel = torch.ones(1, 3) / 3
    blur = bl.operators.Convolution(kernel)
    sharpen = bl.operators.Convolution(torch.tensor([[1.0, -1.0]]))
    ridge = bl.regularisers.Tikhonov(0.1, sharpen)
    energy = bl.Variational(bl.fidelities.SquaredL2(blur), ridge).double()
    y = torch.rand(1, 1, 6, 9, dtype=torch.float64)
    apart = energy.fidelity.bounds((1, 6, 9), y).mu + energy.regulariser.bounds((1, 6, 9)).mu
    assert float(energy.bounds(y).mu) > float(apart) + 1e-4
    basis = torch.eye(54, dtype=torch.float64).reshape(54, 1, 6, 9)
    matrix = energy.hessian(basis, y)(basis).flatten(1).detach()
    assert float(torch.linalg.eigvalsh(matrix)[0]) == pytest.approx(
        float(energy.bounds(y).mu), rel=1e-8
    )


def test_divergence_keeps_the_last_finite_point() -> None:
    class Steep(bl.Energy):
        """Declares far too small a Lipschitz constant."""

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 1e6 * (x - y).square().flatten(1).sum(1)

        def bounds(self, y: Tensor):
            from bilevel.model import Bounds

            return Bounds.of(1.0, 1.0)

    y = torch.rand(1, 1, 4, 4)
    solution = bl.minimise(
        Steep().at(y), bl.solvers.GradientDescent(), y + 1, tol=bl.Tolerance(residual=1e-3)
    )
    assert solution.status.tolist() == [bl.Status.DIVERGED]
    assert bool(solution.x.isfinite().all())
    with pytest.raises(NotCertified, match="infinite"):
        solution.require()


def test_memory_of_a_solve_keeps_no_tape() -> None:
    energy = denoising()
    y = torch.rand(1, 1, 8, 8, requires_grad=True)
    solution = bl.minimise(energy.at(y.detach()), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-3))
    assert not solution.x.requires_grad


Y = torch.rand(1, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bl.Tolerance, "finite field"),
        (lambda: bl.Tolerance(rms=-1), "tolerance rms must be positive"),
        (lambda: bl.Tolerance(gap=float("nan")), "tolerance gap must be positive"),
        (lambda: denoising().at(Y[0]), r"shape \(b, c, h, w\)"),
        (lambda: denoising().at(Y[:0]), r"shape \(b, c, h, w\)"),
        (lambda: denoising().at((255 * Y).to(torch.uint8)), "float32 or float64"),
        (lambda: denoising().at(Y.double()), r"y is torch.float64.*\.to\("),
        (lambda: denoising().at(Y / 0), "finite"),
        (lambda: denoising().at(torch.full_like(Y, torch.nan)), "finite"),
        (lambda: denoising().at(Y, {"regulariser.log_wieght": torch.tensor(0.0)}), "did you mean"),
        (lambda: denoising().at(Y, {"regulariser.log_weight": torch.zeros(2)}), "has shape"),
        (lambda: denoising(torch.ones(4, 4)).at(Y), "map of weights"),
        (lambda: solve(x0=Y[..., 1:]), "x0 must be"),
        (lambda: solve(x0=Y.double()), "x0 must be"),
        (lambda: solve(x0=Y / 0), "x0 must be finite"),
        (lambda: solve(max_steps=-1), "max_steps"),
        (lambda: solve(check_every=0), "check_every"),
        (lambda: bl.solvers.Nesterov(momentum="convx"), "did you mean 'convex'"),
        (lambda: bl.solvers.Nesterov(first_lipschitz=0), "first_lipschitz"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def solve(**options: object) -> bl.Solution:
    objective = denoising().at(Y)
    return bl.minimise(objective, bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-3), **options)  # type: ignore[arg-type]


def test_solvers_ask_for_the_constants_they_need() -> None:
    class Bare(bl.Energy):
        """Nothing declared."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (self.w * (x - y).square()).flatten(1).sum(1)

    tol = bl.Tolerance(residual=1e-3)
    for solver in (bl.solvers.GradientDescent(), bl.solvers.Nesterov(backtracking=False)):
        with pytest.raises(InputError, match="Lipschitz"):
            bl.minimise(Bare().at(Y), solver, Y + 1, tol=tol)
    with pytest.raises(InputError, match="no strong convexity is proved"):
        solver = bl.solvers.Nesterov(momentum="strongly convex")
        bl.minimise(Bare().at(Y), solver, Y + 1, tol=tol)


def test_the_last_state_is_kept_though_rows_leave() -> None:
    case = make("circular", "foe charbonnier", 1, torch.float64, batch=5)
    y = case.y * torch.tensor([0.0, 1e-2, 1.0, 3.0, 10.0], dtype=torch.float64)[:, None, None, None]
    for tol, max_steps in ((1e-3, 1000), (1e-9, 9), (1e-6, 0)):
        options = {"tol": bl.Tolerance(rms=tol), "max_steps": max_steps, "keep_state": True}
        found = bl.minimise(case.energy.at(y), bl.solvers.LBFGS(), **options)  # type: ignore[arg-type]
        assert isinstance(found.state, LBFGSState)
        assert torch.equal(found.state.x, found.x)
        probe = torch.randn_like(found.x)
        for k in range(5):
            one = case.energy.at(y[k : k + 1])
            alone = bl.minimise(one, bl.solvers.LBFGS(), **options)  # type: ignore[arg-type]
            assert isinstance(alone.state, LBFGSState)
            expected = alone.state.memory.apply(probe[k : k + 1])
            torch.testing.assert_close(
                found.state.memory.apply(probe)[k : k + 1], expected, rtol=1e-3, atol=1e-4
            )
    assert bl.minimise(case.energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1)).state is None
