"""One energy, a weight for each row: J_k(x) = Ψ(A x; y_k) + w_k R(x)."""

from __future__ import annotations

from torch import Tensor, nn

from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.theta import bind, fixed
from bilevel.model.energy import Energy
from bilevel.model.split import Split
from bilevel.model.term import Function
from bilevel.model.variational import Variational

__all__ = ["RowWeighted"]


class RowWeighted(Energy):
    """J_k(x) = Ψ(A x; y_k) + w_k R(x) in row k, for choosing a weight w_k for each image.

    θ is ``{"log_weight": log w}``, (b,) float64. Terms that are diagonal in the Fourier basis are
    added there before mu is taken. A box stays as it is, whatever w.

    Args:
        energy: Ψ and R; w multiplies R as it is, whatever weights it carries itself.
        weight: w > 0 [1], (b,).

    Raises:
        InputError: weights that are not positive, an energy with further channels.

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
        return self.split(y).value(x)

    def split(self, y: Tensor) -> Split:
        """Both terms."""
        weight = self.weight
        scaled = [part.scaled(weight) for part in self.penalty(y)]
        functions = (*self.energy.fidelity.at(y), *scaled)
        return Split.of(functions, y.dtype, *self.energy.ends(y))

    def penalty(self, y: Tensor) -> tuple[Function, ...]:
        """Functions of x whose sum is R(x)."""
        return self.energy.regulariser.at(y)

    def start(self, y: Tensor) -> Tensor:
        """That of the energy."""
        return self.energy.start(y)

    def check(self, y: Tensor) -> None:
        """Data of the energy, one row for each weight."""
        self.energy.check(y)
        if len(y) != len(self.log_weight):
            given = f"{len(self.log_weight)} weights and {len(y)} rows"
            raise InputError("one positive weight for each row is needed", given=given)

    def rows(self, index: Tensor) -> RowWeighted:
        """Those rows with their weights."""
        twin = bind(self, {})
        twin.log_weight = nn.Parameter(self.log_weight.detach()[index])
        return twin
