"""The squared distance of Anscombe transforms: photon and read noise made Gaussian."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.model.fidelities.counts import Counts
from bilevel.model.operators.operator import Operator

__all__ = ["Anscombe"]


class Anscombe(Counts):
    """weight/2 ‖g(A x) - g(y)‖², g the generalised Anscombe transform: counts and read noise.

    Ψ(A x; y) = w/2 Σ (g(A x) - g(y))² with g(t) = 2/gain √(gain t + 3/8 gain² + read_noise²), that
    is w/gain 2 Σ (√(A x + b) - √(y + b))² with b = 3/8 gain + read_noise²/gain: counts of a camera
    have about the variance 1 after g (Anscombe 1948; Murtagh, Starck, Bijaoui 1995).

    Convex. Where A x < 0 it goes on as ``KullbackLeibler`` does below its background b, which is
    large: L = w/gain ‖A‖² (√(max y + b) b^(-3/2) + 4/b). Data below -b have no transform and are
    refused: clamp them. For many counts it is the divergence; for few ones it is a baseline that
    ``GaussianPoisson`` should beat.

    Args:
        operator: A, the identity if None.
        gain: grey value of one photon [grey value].
        read_noise: its standard deviation [grey value].
        weight: factor w [1].
        learn: names of what is learned; the rest stays as given.

    Raises:
        InputError: a gain or weight that is not positive, a negative read noise, an unknown name
            in ``learn``.

    Example:
        >>> import torch
        >>> fidelity = Anscombe(gain=1.0, read_noise=0.0)
        >>> x, y = torch.full((1, 1, 1, 1), 3.625), torch.full((1, 1, 1, 1), 0.625)
        >>> fidelity(x, y)  # 2 (√4 - √1)²
        tensor([2.])
    """

    def __init__(
        self,
        operator: Operator | None = None,
        gain: float = 0.01,
        read_noise: float = 0.0,
        weight: float = 1.0,
        *,
        learn: Collection[str] = (),
    ) -> None:
        """Forward operator, gain, read noise and weight."""
        check_positive(gain, "the gain")
        check_nonnegative(read_noise, "the read noise")
        shift = 3 / 8 * gain + read_noise**2 / gain
        super().__init__(operator, shift, weight, gain, learn=learn)
        self.read_noise = read_noise

    def options(self) -> dict[str, object]:
        """What builds it again; the background follows from it."""
        own = super().options()
        del own["background"]
        return {**own, "read_noise": self.read_noise}

    def _stiffness(self, like: Tensor) -> Tensor:
        """2, what φ' tends to."""
        return 2 * super()._stiffness(like)

    def _phi(self, s: Tensor, z: Tensor) -> Tensor:
        """2 (√s - √z)², without cancellation."""
        return 2 * ((s - z) / (s.sqrt() + z.sqrt())).square()

    def _bent(self, s: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """2 (1 - √(z/s)) and √z s^(-3/2)."""
        root = (z / s).sqrt()
        return 2 * (1 - root), root / s

    def _third(self, s: Tensor, z: Tensor) -> Tensor:
        """3/2 √z s^(-5/2)."""
        return 1.5 * (z / s).sqrt() / s.square()

    def _most(self, z: Tensor) -> Tensor:
        """√z b^(-3/2)."""
        return z.sqrt() / self.background**1.5

    def _offset(self, z: Tensor) -> Tensor:
        """2 √m + 2 ‖√(z/b)‖."""
        size = rows.length((z.double() / self.background).sqrt())
        return 2 * (z[0].numel() ** 0.5 + size)
