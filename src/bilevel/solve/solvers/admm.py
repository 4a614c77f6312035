"""ADMM: features of the image as unknowns of their own; for powers of gradients, convex or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.linear import LinearMap, cg
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.solve.solver import Solver

__all__ = ["ADMM"]


@dataclass(frozen=True)
class ADMMState:
    """x; t_j, which A_j x is to equal; the multipliers; β; where nothing proves more, rows done."""

    x: Tensor
    split: Dual
    dual: Dual
    beta: Tensor
    settled: Tensor


@dataclass(frozen=True)
class ADMM(Solver[ADMMState]):
    """Alternating directions of multipliers: for exact directional total variation of any power.

    For J = f + Σ_j F_j(A_j x), with t_j in the place of A_j x and multipliers λ_j:

        x⁺ = x - (∇²f + β Σ A_jᵀA_j)⁻¹ (∇f(x) + Σ A_jᵀ(λ_j + β (A_j x - t_j))), by CG,
        t_j⁺ = prox_{F_j/β}(A_j x⁺ + λ_j/β),   λ_j⁺ = λ_j + β (A_j x⁺ - t_j⁺),

    the first being exact where f is quadratic, up to ``rtol``. For convex J the multipliers give a
    proved gap. Where J is not convex (exponents below 1) nothing is proved and no row counts as
    converged: β then grows from step to step, and a row counts as stalled when A_j x and t_j, and
    two t_j in turn, are within ``settled`` of one another, relatively.

    Args:
        penalty: β over the largest weight for the contrast of the data [1].
        rtol: relative residual of the inner systems.
        max_products: limit of the products of a step, by the inner CG.
        growth: of β in a step of a row that is not convex.
        settled: relative changes at which such a row ends.

    Source: Calatroni, Lanza, Pragliola, Sgallari 2019 (arXiv 1904.01799), section 5, without
    their second splitting r = A u - y, which CG makes unnecessary; Glowinski and Marroco 1975.

    Raises:
        InputError: an objective without dual terms, or with a box or an L1 term; options that are
            not positive.

    Example:
        >>> import bilevel as bl
        >>> r = bl.regularisers.ExactDirectionalTV(0.1, exponent=0.7)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), r).double()
        >>> y = bl.data.embedded_image("cell")[..., :16, :16].double()
        >>> found = bl.minimise(energy.at(y), ADMM(), tol=bl.Tolerance(rms=1e-3), max_steps=500)
        >>> bl.Status(int(found.status[0])).name, float(found.certificate.rms[0])
        ('STALLED', inf)
    """

    takes: ClassVar[type[Objective]] = SaddleObjective

    penalty: float = 3.0
    rtol: float = 1e-2
    max_products: int = 50
    growth: float = 1.01
    settled: float = 1e-3

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self.penalty, "penalty")
        check_positive(self.rtol, "rtol")
        check_positive(self.settled, "settled")
        if not 1 <= self.growth <= 2:
            raise InputError("growth must lie in [1, 2]", given=self.growth)
        check_count(self.max_products, "max_products")

    def init(self, objective: SaddleObjective, x: Tensor) -> ADMMState:
        """t_j = A_j x, no multipliers."""
        if objective.proximable.boxed or objective.proximable.distance is not None:
            what = "ADMM takes neither a box nor an L1 term"
            raise InputError(what, advice="leave it out, or use solvers.PDHG()")
        split = objective.analyse(x)
        largest = torch.stack([term.largest(x) for term in objective.terms]).amax(0)
        flat = x - rows.expand(x.flatten(1).mean(1), x)
        contrast = rows.rms(flat).double()
        beta = self.penalty * largest / torch.where(contrast > 0, contrast, 1.0)
        dual = tuple(torch.zeros_like(t) for t in split)
        settled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return ADMMState(x, split, dual, beta.to(x), settled)

    def dual(self, state: ADMMState) -> Dual:
        """The multipliers."""
        return state.dual

    def stuck(self, state: ADMMState) -> Tensor:
        """Those that settled where nothing can be proved."""
        return state.settled

    def step(self, objective: SaddleObjective, state: ADMMState) -> ADMMState:
        """One gradient of f, the products of CG, one prox of every F_j."""
        x, beta = state.x, state.beta
        pulls = tuple(
            dual + rows.expand(beta, dual) * (image - t)
            for dual, image, t in zip(state.dual, objective.analyse(x), state.split, strict=True)
        )
        slope = objective.smooth.grad(x) + objective.adjoint(pulls)
        system = _system(objective, objective.smooth.hessian(x), beta)
        x = x - cg(system, slope, rtol=self.rtol, max_steps=self.max_products).x
        images = objective.analyse(x)
        split = tuple(
            term.prox(image + dual / rows.expand(beta, dual), 1 / beta)
            for term, image, dual in zip(objective.terms, images, state.dual, strict=True)
        )
        moved = zip(state.dual, images, split, strict=True)
        dual = tuple(p + rows.expand(beta, p) * (image - t) for p, image, t in moved)
        small = _far(images, split, state.split) <= self.settled
        convex = objective.convex
        beta = torch.where(convex, beta, self.growth * beta)
        return ADMMState(x, split, dual, beta, small & ~convex)


def _system(objective: SaddleObjective, hessian: LinearMap, beta: Tensor) -> LinearMap:
    """∇²f + β Σ A_jᵀA_j."""

    def apply(v: Tensor) -> Tensor:
        return hessian(v) + rows.expand(beta, v) * objective.adjoint(objective.analyse(v))

    def restrict(index: Tensor) -> LinearMap:
        return _system(objective.rows(index), hessian.rows(index), beta[index])

    return LinearMap(apply, restrict)


def _far(images: Dual, split: Dual, before: Dual) -> Tensor:
    """How far t is from A x, or from the last t where that is more, over ‖A x‖, (b,)."""
    far, step, size = torch.zeros(3, len(images[0])).to(images[0])
    for image, t, old in zip(images, split, before, strict=True):
        far = far + rows.norm(image - t).square()
        step = step + rows.norm(t - old).square()
        size = size + rows.norm(image).square()
    return (torch.maximum(far, step) / size.clamp_min(torch.finfo(size.dtype).tiny)).sqrt()
