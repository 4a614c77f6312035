"""One energy, a weight for each row: J_k(x) = Ψ(A x; y_k) + w_k R(x)."""

from __future__ import annotations

from torch import Tensor, nn

from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, bind, fixed
from bilevel.model.cost import Cost
from bilevel.model.energy import Energy
from bilevel.model.kinds import required
from bilevel.model.smooth import RowScaled, Smooth, SmoothSum
from bilevel.model.smooth_objective import SmoothObjective
from bilevel.model.split import Split
from bilevel.model.term import Function
from bilevel.model.variational import Variational

__all__ = ["RowWeighted"]


class RowWeighted(Energy):
    """J_k(x) = Ψ(A x; y_k) + w_k R(x) in row k, for choosing a weight w_k for each image.

    θ is ``{"log_weight": log w}``, (b,) float64. Terms that are diagonal in the Fourier basis are
    added there before mu is taken.

    Args:
        energy: Ψ and R, smooth; w multiplies R as it is, whatever weights it carries itself.
        weight: w > 0 [1], (b,).

    Raises:
        InputError: an energy that is not smooth, weights that are not positive.

    Example:
        >>> import torch
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> two = RowWeighted(energy, torch.tensor([1.0, 3.0])).at(torch.ones(2, 1, 1, 1))
        >>> two.grad(torch.ones(2, 1, 1, 1)).flatten()
        tensor([1., 3.])
    """

    log_weight: Tensor

    def __init__(self, energy: Variational, weight: Tensor) -> None:
        """Check the weights once."""
        super().__init__()
        if weight.ndim != 1 or not bool((check_finite(weight, "weight") > 0).all()):
            given = f"shape {tuple(weight.shape)}, least {float(weight.min()):.3g}"
            raise InputError("one positive weight for each row is needed", given=given)
        if energy.further:
            what = "a weight for each row needs an energy whose state is the image alone"
            given = f"{energy.further} further channels for each of the image"
            raise InputError(what, given=given, advice="learn the weights with BilevelProblem")
        self.energy = fixed(energy)
        self.log_weight = nn.Parameter(weight.double().log())

    @property
    def weight(self) -> Tensor:
        """w, (b,) float64."""
        return self.log_weight.exp()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Ψ + w R, (b,)."""
        return self.split(y).smooth.value(x)

    def split(self, y: Tensor) -> Split:
        """Both terms."""
        return Split(SmoothSum((self.fidelity(y), RowScaled(self.penalty(y), self.weight))))

    def fidelity(self, y: Tensor) -> Smooth:
        """x -> Ψ(A x; y)."""
        return _smooth(self.energy.fidelity.at(y))

    def penalty(self, y: Tensor) -> Smooth:
        """x -> R(x)."""
        return _smooth(self.energy.regulariser.at(y))

    def start(self, y: Tensor) -> Tensor:
        """That of the energy."""
        return self.energy.start(y)

    def check(self, y: Tensor) -> None:
        """Data of the energy, one row for each weight."""
        self.energy.check(y)
        self.split(y)
        if len(y) != len(self.log_weight):
            given = f"{len(self.log_weight)} weights and {len(y)} rows"
            raise InputError("one positive weight for each row is needed", given=given)

    def at(
        self, y: Tensor, theta: Theta | None = None, cost: Cost | None = None
    ) -> SmoothObjective:
        """As for any energy; this one is smooth."""
        return required(super().at(y, theta, cost), SmoothObjective, "a weight for each row")

    def rows(self, index: Tensor) -> RowWeighted:
        """Those rows with their weights."""
        twin = bind(self, {})
        twin.log_weight = nn.Parameter(self.log_weight.detach()[index])
        return twin


def _smooth(functions: tuple[Function, ...]) -> Smooth:
    found = tuple(part for part in functions if isinstance(part, Smooth))
    if len(found) < len(functions):
        advice = "smooth it, e.g. TotalVariation(smoothing=1e-3) and SquaredL2"
        raise InputError("weights of rows need a smooth energy", advice=advice)
    return SmoothSum(found)
