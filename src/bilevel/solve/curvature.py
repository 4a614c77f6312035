"""The curvature at a solution: whether it can be a minimiser, told with what is proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.linear import LinearMap, lanczos
from bilevel.model.bounds import Provenance
from bilevel.model.kinds import required
from bilevel.model.objective import Curved, Objective
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.solve.solution import Solution

__all__ = ["Curvature", "Spectrum", "curvature", "spectrum"]


@dataclass(frozen=True)
class Curvature:
    """Bounds of the smallest eigenvalue of ∇²J at a point; (b,) float64, rounding counted in.

    Attributes:
        lower: a proved lower bound, -inf where none is.
        upper: a proved upper bound, the Rayleigh quotient of ``direction``.
        direction: (b, ...) of length 1, where the least curvature was found.
    """

    lower: Tensor
    upper: Tensor
    direction: Tensor

    @property
    def indefinite(self) -> Tensor:
        """Rows where ⟨q, ∇²J q⟩ < 0 for ``direction`` q: proved, so no minimiser; (b,) bool."""
        return self.upper < 0

    @property
    def definite(self) -> Tensor:
        """Rows where ∇²J is proved to be positive definite at the point, (b,) bool."""
        return self.lower > 0

    @property
    def words(self) -> list[str]:
        """One sentence a row."""
        return [_words(float(a), float(b)) for a, b in zip(self.lower, self.upper, strict=True)]


def _words(lower: float, upper: float) -> str:
    if upper < 0:
        return f"a direction of negative curvature {upper:.2e} is proved: no local minimiser"
    if lower > 0:
        return f"the Hessian is positive definite, its eigenvalues at least {lower:.2e} (proved)"
    least = "no lower bound is proved" if lower == -torch.inf else f"at least {lower:.2e} is proved"
    return f"no negative curvature was found (the least is {upper:.2e}), but {least}"


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (b, n) of ∇²J, ascending, each within ``error`` (b,) of the true one.

    ``vectors`` (b, n, n) are those of a matrix that close to ∇²J, one a column.
    """

    values: Tensor
    error: Tensor
    vectors: Tensor

    def newton_step(self, gradient: Tensor) -> Tensor:
        """‖H⁻¹∇J‖ for that matrix, (b,)."""
        turned = torch.bmm(gradient.flatten(1)[:, None], self.vectors)[:, 0]
        return rows.norm(turned / self.values)


def curvature(
    objective: Objective, solution: Solution, *, steps: int = 60, dense: int = 1024
) -> Curvature:
    """The smallest eigenvalue of ∇²J at the solution, in float64.

    Images of at most ``dense`` values have their Hessian written out (as many HVPs a row as there
    are values): both bounds are then proved and close. For others ``steps`` Lanczos steps search
    for negative curvature: what they find is proved, that they find none proves nothing, and the
    lower bound is that of the energy. For an energy that declares no Lipschitz constant, rounding
    is judged by ‖∇²J q‖ and no lower bound is claimed.

    Raises:
        InputError: a non-smooth objective.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> objective = energy.at(torch.ones(1, 1, 4, 4))
        >>> solution = bl.minimise(objective, bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-4))
        >>> curvature(objective, solution).words
        ['the Hessian is positive definite, its eigenvalues at least 2.00e+00 (proved)']
    """
    advice = "its certificate of distance is global where mu > 0 is proved"
    smooth = required(objective, SmoothObjective, "curvature", advice=advice)
    double, x = smooth.double(), solution.x.double()
    bounds = double.bounds
    proved = bounds.mu_from is Provenance.PROVED
    floor = bounds.mu if proved else torch.full_like(bounds.mu, -torch.inf)
    if x[0].numel() <= dense:
        found = spectrum(double, x)
        lower = found.values[:, 0] - found.error
        direction = found.vectors[..., 0].reshape(x.shape)
    else:
        random = generator(0, "curvature")
        start = torch.randn(x[0].shape, generator=random, dtype=x.dtype).to(x.device)
        lower, direction = floor, lanczos(double.hessian(x), start.expand_as(x), steps=steps).vector
    image = double.hessian(x)(direction)
    quotient = rows.inner(direction, image) / rows.inner(direction, direction)
    declared = torch.isfinite(bounds.lipschitz)
    allowance = _rounding(x, torch.where(declared, bounds.lipschitz, rows.length(image)))
    return Curvature(torch.maximum(lower, floor), quotient + allowance, direction)


def spectrum(objective: Curved, x: Tensor) -> Spectrum:
    """All eigenvalues of ∇²J(x), from the Hessian written out; n HVPs a row, float64.

    ``error`` allows for the rounding of its entries, for their asymmetry, and for the backward
    error of the eigenvalue routine.
    """
    matrix = _written_out(objective.hessian(x), x)
    symmetric = (matrix + matrix.mT) / 2
    values, vectors = cast(tuple[Tensor, Tensor], torch.linalg.eigh(symmetric))
    skew = rows.length(matrix - symmetric)
    error = _rounding(x, values.abs().amax(1) + objective.bounds.lipschitz) + skew
    return Spectrum(values, error, vectors)


def _written_out(operator: LinearMap, x: Tensor) -> Tensor:
    """The matrices (b, n, n), column by column."""
    n = x[0].numel()
    matrix = x.new_zeros(len(x), n, n)
    for k in range(n):
        unit = x.new_zeros(n)
        unit[k] = 1
        matrix[:, :, k] = operator(unit.reshape(x[0].shape).expand_as(x)).flatten(1)
    return matrix


def _rounding(x: Tensor, size: Tensor) -> Tensor:
    """16 n eps times the size of the terms."""
    return 16 * x[0].numel() * torch.finfo(x.dtype).eps * size
