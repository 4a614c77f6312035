"""A fidelity whose data bring the sensitivities of the coils that each sample was seen by."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.model.fidelities.accompanied import Accompanied, After
from bilevel.model.fidelities.fidelity import Fidelity
from bilevel.model.fidelities.masked import RowMasked, beside, check_masks, check_seeing
from bilevel.model.operators.multi_coil import MultiCoil, decoded, encoded, extremes
from bilevel.model.operators.operator import Interval, Operator, Shape

__all__ = ["OwnCoils"]


class OwnCoils(Accompanied):
    """A fidelity of m_k F (S_k x): every sample has sensitivities and a mask of its own.

    Ψ(m_k ⊙ A_k x; y_k) in row k, where A_k is the ``MultiCoil`` of the fidelity with the maps S_k
    in place of its own: those tell how many coils there are. Data are (b, 6N, h, w): y_k as for
    ``MultiCoil``, then real and imaginary parts of S_k, then m_k; :meth:`data` joins them.

    Args:
        fidelity: Ψ, e.g. ``SquaredL2(MultiCoil(torch.ones(h, w), maps))``.

    Raises:
        InputError: something that is no smooth fidelity of a ``MultiCoil``; later data that do not
            come in three blocks, a sample that sees nothing, or whose sensitivities are zero.

    Example:
        >>> from bilevel.model.fidelities import SquaredL2
        >>> coils = OwnCoils(SquaredL2(MultiCoil(torch.ones(4, 4))))
        >>> x, maps = torch.ones(2, 2, 4, 4), torch.ones(2, 1, 4, 4) * (1 + 0j)
        >>> coils(x, coils.data(0 * x, maps * torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)))
        tensor([16., 64.])
    """

    def __init__(self, fidelity: Fidelity) -> None:
        super().__init__(fidelity, "sensitivities", "masks")
        if not isinstance(fidelity.operator, MultiCoil):
            what = "sensitivities of samples are those of a MultiCoil"
            raise InputError(what, given=type(fidelity.operator).__name__)

    @staticmethod
    def data(y: Tensor, maps: Tensor, mask: Tensor | None = None) -> Tensor:
        """Measurements (b, 2N, h, w) with their maps, complex (b, N, h, w), and masks.

        Masks are of the shape of y or broadcast to it; all is seen if None.

        Raises:
            InputError: maps or masks that do not fit.
        """
        b, channels, h, w = y.shape
        if not maps.is_complex() or maps.shape != (b, channels // 2, h, w) or channels % 2:
            what = f"sensitivities must be complex, {(b, channels // 2, h, w)}, for such data"
            raise InputError(what, given=f"{maps.dtype} {tuple(maps.shape)}")
        parts = torch.cat([maps.real, maps.imag], 1).to(y)
        return torch.cat([y, parts, beside(torch.ones_like(y) if mask is None else mask, y)], 1)

    def operator_of(self, operator: Operator, *own: Tensor) -> Operator:
        """m_k ⊙ A_k."""
        parts, mask = own
        assert isinstance(operator, MultiCoil)
        return RowMasked(_RowCoils(operator, parts), mask)

    def check_own(self, *own: Tensor) -> None:
        """Every row must see something, through coils that do."""
        parts, mask = own
        check_masks(mask)
        advice = "check how they were estimated, and their order in OwnCoils.data"
        check_seeing(parts, "sensitivities are zero everywhere", "maps", advice)


class _RowCoils(After):
    """F (S_k x) in row k, with the mask of ``coils``; ``parts`` (b, 2N, h, w) are those of S."""

    def __init__(self, coils: MultiCoil, parts: Tensor) -> None:
        super().__init__(coils)
        self.parts = parts

    @property
    def coils(self) -> MultiCoil:
        """What they stand in for."""
        return cast(MultiCoil, self.inner)

    @property
    def roundings(self) -> float:
        """As with sensitivities that all rows share."""
        return self.coils.roundings

    @property
    def _maps(self) -> Tensor:
        return torch.complex(*self.parts.chunk(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """m F (S_k x)."""
        return encoded(x, self.coils.mask, self._maps, self.coils.centred)

    def adjoint(self, y: Tensor) -> Tensor:
        """Σ S̄_k F⁻¹ (m y)."""
        return decoded(y, self.coils.mask, self._maps, self.coils.centred)

    def gram_bounds(self, image_shape: Shape) -> Interval:
        """Extremes of m² times those of Σ|S_k|² over all rows and pixels."""
        self.data_shape(image_shape)
        return extremes(self.coils.mask, self.parts.double().square().sum(1))

    def image_shape(self, data_shape: Shape) -> Shape:
        """That of the coils."""
        return self.coils.image_shape(data_shape)

    def data_shape(self, image_shape: Shape) -> Shape:
        """That of the coils."""
        return self.coils.data_shape(image_shape)
