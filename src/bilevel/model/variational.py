"""The energy of most users: fidelity plus regulariser."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bilevel.ground.contrast import contrast
from bilevel.ground.theta import Theta, bind
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Magnitude, Smoothness, Variation
from bilevel.model.composite import NonSmoothObjective, Separable
from bilevel.model.cost import Cost
from bilevel.model.energy import EnergyObjective
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.objective import Objective, Summand
from bilevel.model.operators.operator import Shape
from bilevel.model.part import Part, Units
from bilevel.model.preconditioner import Preconditioner, joined
from bilevel.model.regularisers.regulariser import Regulariser, Sum
from bilevel.model.splitting import is_smooth, non_smooth_objective, smooth_terms

__all__ = ["Variational"]


class Variational(Separable):
    """J_θ(x; y) = Ψ_θ2(A x; y) + R_θ1(x).

    Example:
        >>> from bilevel.model.fidelities import SquaredL2
        >>> from bilevel.model.regularisers import TotalVariation
        >>> energy = Variational(SquaredL2(), TotalVariation(weight=0.05, smoothing=0.01))
        >>> [name for name, _ in energy.named_parameters()]
        ['fidelity.log_weight', 'regulariser.log_weight', 'regulariser.log_smoothing']
    """

    def __init__(self, fidelity: Fidelity, regulariser: Regulariser) -> None:
        """The two terms; add regularisers with ``+``."""
        super().__init__()
        self.fidelity, self.regulariser = fidelity, regulariser

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of both terms."""
        return self.fidelity.forward(x, y) + self.regulariser.forward(x)

    def grad(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of the closed-form gradients."""
        if not self._parts:
            return self.fidelity.grad(x, y)
        return self.fidelity.grad(x, y) + self.regulariser.grad(x)

    def summands(self, y: Tensor) -> tuple[Summand, ...] | None:
        """Those of both terms."""
        data, image = self.fidelity.summands(y), self.regulariser.summands()
        return None if data is None or image is None else data + image

    def value_and_grad(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of both, each term computing its features once."""
        value, slope = self.fidelity.value_and_grad(x, y)
        further, pull = self.regulariser.value_and_grad(x)
        return value + further, slope + pull

    def hessian(self, x: Tensor, y: Tensor) -> LinearMap:
        """Sum of the linearised Hessians."""
        return LinearMap.sum([self.fidelity.hessian(x, y), self.regulariser.hessian(x)])

    def majoriser(self, x: Tensor, y: Tensor) -> LinearMap:
        """Sum of the majorisers."""
        return LinearMap.sum([self.fidelity.majoriser(x, y), self.regulariser.majoriser(x)])

    def preconditioner(self, x: Tensor, y: Tensor) -> Preconditioner | None:
        """From the stencils of all terms."""
        found = [self.fidelity.stencils(x, y), *(part.stencils(x) for part in self._parts)]
        parts = joined(found)
        return None if parts is None else Preconditioner.of(parts, x)

    def bounds(self, y: Tensor) -> Bounds:
        """Sum of the bounds; quadratic terms that share the Fourier basis are added there first."""
        shape = self._image_shape(y)
        found = [(term, term.bounds(shape)) for term in self._parts]
        total = self.fidelity.bounds(shape, y)
        for _, bounds in found:
            total = total + bounds
        return replace(total, mu=torch.maximum(total.mu, self._joint_mu(found, shape)))

    @property
    def _parts(self) -> list[Regulariser]:
        return self.regulariser.parts if isinstance(self.regulariser, Sum) else [self.regulariser]

    def _joint_mu(self, found: list[tuple[Regulariser, Bounds]], shape: Shape) -> Tensor:
        mu = torch.tensor(0.0, dtype=torch.float64)
        joint = self.fidelity.spectrum(shape)
        if joint is None:
            return mu - torch.inf
        for term, bounds in found:
            spectrum = term.spectrum(shape)
            if spectrum is None:
                mu = mu + bounds.mu
            else:
                joint = joint + spectrum
        return mu + joint.min() - 1e-12 * joint.abs().max()

    def variation(self, x: Tensor, y: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Sum of the variations."""
        return self.fidelity.variation(x, y, q, radius) + self.regulariser.variation(x, q, radius)

    def smoothness(self, x: Tensor, y: Tensor, radius: Tensor) -> Smoothness:
        """Of both terms."""
        return self.fidelity.smoothness(x, y, radius) + self.regulariser.smoothness(x, radius)

    def magnitude(self, y: Tensor, bounds: Bounds) -> Magnitude:
        """Terms of the fidelity, data included, plus those of the regulariser."""
        shape = self._image_shape(y)
        terms = self.fidelity.magnitude(shape, y)
        upper = (
            bounds.lipschitz - self.fidelity.bounds(shape, y).lipschitz.to(y.device)
        ).clamp_min(0)
        return Magnitude((terms.slope + upper).expand(len(y)), terms.offset)

    def settle(self, y: Tensor, contrast: float | None = None) -> None:
        """As for any energy.

        Example:
            >>> from bilevel.model.fidelities import SquaredL2
            >>> from bilevel.model.regularisers import TotalVariation
            >>> energy = Variational(SquaredL2(), TotalVariation())
            >>> energy.settle(torch.linspace(0.0, 255.0, 256).view(1, 1, 16, 16))
            >>> round(energy.regulariser.smoothing.item(), 2)
            2.53
        """
        left = [part for part in self.modules() if isinstance(part, Part) and part.left]
        if not left:
            return
        grey = self.contrast(y) if contrast is None else contrast
        for part in left:
            part.settle(Units(grey, grey**self.fidelity.degree))

    def stiffness(self, contrast: float) -> float:
        """That of the fidelity: 1 for squared distances, 1/contrast for absolute ones."""
        return contrast ** (self.fidelity.degree - 2)

    def contrast(self, y: Tensor) -> float:
        """That of the images behind ``y`` [grey value], from the start that explains them best.

        Raises:
            InputError: ``y`` cannot be data of this energy.
        """
        self.check(y)
        with torch.no_grad():
            x = self.fidelity.start(y)
            seen = self.fidelity.operator(x).double().flatten()
            size, along = float(seen @ seen), float(seen @ y.double().flatten())
        return contrast(x) * (along / size if along > 0 else 1.0)

    def at(self, y: Tensor, theta: Theta | None = None, cost: Cost | None = None) -> Objective:
        """As for any energy; a composite or saddle objective where a term is not smooth."""
        self.settle(y)
        if is_smooth(self.fidelity, self._parts):
            return super().at(y, theta, cost)
        bound = self if theta is None else bind(self, theta)
        bound.check(y)
        with torch.no_grad():
            return bound.split(y, Cost() if cost is None else cost)

    def split(self, y: Tensor, cost: Cost, *, tape: bool = False) -> NonSmoothObjective:
        """Smooth, simple and dual terms."""
        smooth = Variational(*smooth_terms(self.fidelity, self._parts))
        f = EnergyObjective(smooth, y, cost, tape=tape)
        return non_smooth_objective(self, f, self.fidelity, self._parts)

    def start(self, y: Tensor) -> Tensor:
        """The fidelity's start."""
        return self.fidelity.start(y)

    def check(self, y: Tensor) -> None:
        """Data must fit the operator, images the regulariser."""
        super().check(y)
        self.fidelity.check(y)
        self.regulariser.check(self._image_shape(y))

    def _image_shape(self, y: Tensor) -> Shape:
        return self.fidelity.operator.image_shape((y.shape[1], y.shape[2], y.shape[3]))
