"""The table [solver]: how the lower level is minimised."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from bilevel.cli.settings.base import Count, Fraction, Positive, Settings, Unfit
from bilevel.model import CompositeObjective, EnergyObjective, Objective, SaddleObjective
from bilevel.solve import Solver, solvers

__all__ = [
    "FISTA",
    "LBFGS",
    "NMAPG",
    "PDHG",
    "Automatic",
    "Default",
    "FreeFISTA",
    "GradientDescent",
    "HalfQuadratic",
    "IPiano",
    "Nesterov",
    "NewtonCG",
    "SolverSettings",
]

KINDS: dict[type[Objective], str] = {
    EnergyObjective: "smooth energies alone",
    CompositeObjective: "smooth terms plus a box or one absolute value of the pixels",
    SaddleObjective: "exact total variation, L1 data of an operator, several absolute values",
}
Guess = Annotated[
    Positive, Field(description="first guess of the Lipschitz constant where none is known")
]


class SolverSettings(Settings):
    """A solver of the lower level."""

    takes: ClassVar[type[Objective]] = EnergyObjective
    max_steps: Count = Field(default=20_000, description="limit of each solve")
    chunk: Count = Field(default=64, description="images solved at once; memory grows with it")

    @abstractmethod
    def build(self, objective: Objective) -> Solver[Any]:
        """The solver itself."""

    def check(self, objective: Objective) -> None:
        """Take one step.

        Raises:
            InputError: the solver is for other objectives.
        """
        if not isinstance(objective, self.takes):
            advice = 'leave [solver] out or take name = "automatic"'
            raise Unfit("name", f"the solver is for {KINDS[self.takes]}", advice=advice)
        solver = self.build(objective)
        solver.step(objective, solver.init(objective, objective.start()))


class Automatic(SolverSettings):
    """The solver that fits: L-BFGS for smooth energies, FISTA or PDHG for others."""

    takes = Objective

    def build(self, objective: Objective) -> Solver[Any]:
        """What :func:`bilevel.solve.solvers.automatic` chooses."""
        return solvers.automatic(objective).solver


class Default(SolverSettings):
    """Nesterov's method for smooth energies, often quickest to learn with; others FISTA or PDHG."""

    takes = Objective

    def build(self, objective: Objective) -> Solver[Any]:
        """What :func:`bilevel.solve.solvers.accelerated` chooses."""
        return solvers.accelerated(objective)


class Nesterov(SolverSettings):
    """Accelerated gradient descent."""

    momentum: Literal["automatic", "convex", "strongly convex"] = Field(
        default="automatic", description="which convexity it relies on"
    )
    restart: bool = Field(
        default=solvers.Nesterov.restart, description="when the momentum points uphill"
    )
    backtracking: bool | None = Field(
        default=solvers.Nesterov.backtracking, description="search for the Lipschitz constant"
    )
    first_lipschitz: Guess = solvers.Nesterov.first_lipschitz

    def build(self, objective: Objective) -> Solver[Any]:
        """Nesterov's method."""
        return solvers.Nesterov(
            self.momentum, self.restart, self.backtracking, self.first_lipschitz
        )


class LBFGS(SolverSettings):
    """L-BFGS: learns curvature; about half the gradients of Nesterov's method, or fewer."""

    memory: Count = Field(default=solvers.LBFGS.memory, description="pairs kept")
    first_change: Positive | None = Field(
        default=None,
        description="length of the first step [grey value]; from the contrast if none",
    )
    precondition: bool = Field(
        default=True, description="use the energy's preconditioner, if it has one"
    )

    def build(self, objective: Objective) -> Solver[Any]:
        """L-BFGS."""
        return solvers.LBFGS(self.memory, self.first_change, self.precondition)


class NewtonCG(SolverSettings):
    """Newton's method with conjugate gradients: for good starts and high accuracy."""

    forcing: Fraction = Field(
        default=solvers.NewtonCG.forcing, description="largest relative residual of its systems"
    )
    max_products: Count = Field(
        default=solvers.NewtonCG.max_products, description="Hessian-vector products a step"
    )

    def build(self, objective: Objective) -> Solver[Any]:
        """Newton-CG."""
        return solvers.NewtonCG(self.forcing, self.max_products)


class GradientDescent(SolverSettings):
    """Gradient descent with the best constant step."""

    def build(self, objective: Objective) -> Solver[Any]:
        """Gradient descent."""
        return solvers.GradientDescent()


class NMAPG(SolverSettings):
    """Nonmonotone accelerated gradients with line search: for non-convex energies."""

    rho: Fraction = Field(
        default=solvers.NMAPG.rho, description="factor of the step after a failed trial"
    )
    delta: Positive = Field(default=solvers.NMAPG.delta, description="sufficient decrease")
    eta: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=solvers.NMAPG.eta, description="weight of earlier values; 0 is monotone"
    )
    first_lipschitz: Guess = solvers.NMAPG.first_lipschitz

    def build(self, objective: Objective) -> Solver[Any]:
        """The method of Li and Lin."""
        return solvers.NMAPG(self.rho, self.delta, self.eta, self.first_lipschitz)


class IPiano(SolverSettings):
    """Gradient steps with a heavy ball: for non-convex energies."""

    beta: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=solvers.IPiano.beta, description="weight of the inertia"
    )
    growth: Annotated[float, Field(gt=1)] = Field(
        default=solvers.IPiano.growth, description="least factor of L after a failed trial"
    )
    first_lipschitz: Guess = solvers.IPiano.first_lipschitz

    def build(self, objective: Objective) -> Solver[Any]:
        """The method of Ochs and others."""
        return solvers.IPiano(self.beta, self.growth, self.first_lipschitz)


class FreeFISTA(SolverSettings):
    """Accelerated gradients that find both constants on the way."""

    rho: Fraction = Field(
        default=solvers.FreeFISTA.rho, description="factor of the step after a failed trial"
    )
    delta: Annotated[float, Field(gt=0, le=1)] = Field(
        default=solvers.FreeFISTA.delta, description="the step may grow by 1/delta"
    )
    first_lipschitz: Guess = solvers.FreeFISTA.first_lipschitz

    def build(self, objective: Objective) -> Solver[Any]:
        """Free-FISTA."""
        return solvers.FreeFISTA(self.rho, self.delta, self.first_lipschitz)


class HalfQuadratic(SolverSettings):
    """Reweighted least squares: few steps, each with many products."""

    rtol: Positive = Field(
        default=solvers.HalfQuadratic.rtol, description="relative residual of its systems"
    )
    max_products: Count = Field(
        default=solvers.HalfQuadratic.max_steps, description="products a step"
    )

    def build(self, objective: Objective) -> Solver[Any]:
        """Half-quadratic minimisation."""
        return solvers.HalfQuadratic(self.rtol, self.max_products)


class FISTA(SolverSettings):
    """Proximal gradients with momentum: for a box, positivity, or one absolute value."""

    takes = CompositeObjective
    restart: bool = Field(
        default=solvers.FISTA.restart, description="when the momentum points uphill"
    )

    def build(self, objective: Objective) -> Solver[Any]:
        """FISTA."""
        return solvers.FISTA(self.restart)


class PDHG(SolverSettings):
    """Primal and dual steps in turn, with a proved gap: for exact total variation."""

    takes = SaddleObjective
    relaxation: Annotated[float, Field(ge=1, lt=2)] = Field(
        default=solvers.PDHG.relaxation, description="length of a step, 1 for none"
    )
    acceleration: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=solvers.PDHG.acceleration, description="0 for constant steps; chosen if none"
    )

    def build(self, objective: Objective) -> Solver[Any]:
        """PDHG."""
        return solvers.PDHG(self.relaxation, self.acceleration)
