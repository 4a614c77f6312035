"""Magnetic resonance along spirals, radial lines or any other points of k-space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilevel.ground.checks import check_constant, check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.extras import load
from bilevel.model.operators import Linear
from bilevel.model.operators.inputs import real_tensor

__all__ = ["NonCartesian"]

_ACCURACY = 1e-12
"""Of the transform, in both precisions: what is computed is one and the same linear map."""


class NonCartesian(Linear):
    """Fourier coefficients of a complex image at any points, seen by one coil or several.

    y_kj = (h w)^-½ Σ_p S_k[p] x[p] exp(-2πi (u_j (p_1 - h // 2)/h + v_j (p_2 - w // 2)/w)), by the
    non-uniform FFT of FINUFFT (Barnett, Magland and af Klinteberg 2019) in double precision. At
    integer points it is ``MultiCoil`` with ``centred``. Images (b, 2, h, w) hold real and imaginary
    part; data (b, 2N, 1, m) the real parts of all N coils, then their imaginary parts.

    Args:
        points: (m, 2), (u, v) down and across, in cycles per field of view: within ±h/2 and ±w/2.
        size: (h, w) of the image [pixel].
        sensitivities: S, complex, (N, h, w); a single coil that sees all pixels alike if None.
        norm: a bound of ‖A‖ that you vouch for; as for :class:`~bilevel.operators.Linear` if None:
            proved for small maps, not claimed for others.

    Raises:
        InputError: FINUFFT is missing, points of another shape or beyond the band, or
            sensitivities that are not complex, not finite or of another size.
    """

    def __init__(
        self,
        points: Tensor,
        size: tuple[int, int],
        sensitivities: Tensor | None = None,
        norm: float | None = None,
    ) -> None:
        finufft = load("finufft", "sampling off the grid", "nufft")
        h, w = _size(size)
        places = _points(points, h, w)
        maps = _maps(sensitivities, h, w)
        ahead, back = _transforms(finufft, places, maps)
        super().__init__(ahead, back, (2, h, w), norm, paired=True)
        self.size, self._points, self._maps = (h, w), places, maps
        self._single = sensitivities is None

    def options(self) -> dict[str, object]:
        """The arguments that build this operator again."""
        maps = None if self._single else torch.from_numpy(self._maps.copy())
        points = torch.from_numpy(self._points.copy())
        return {"points": points, "size": self.size, "sensitivities": maps, "norm": self._norm}


def _transforms(
    finufft: Any, points: Any, maps: Any
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Complex images (b, 1, h, w) to data (b, N, 1, m), and the adjoint."""
    coils, h, w = maps.shape
    scale = 1 / math.sqrt(h * w)
    u, v = (np.ascontiguousarray(2 * math.pi * points[:, k] / (h, w)[k]) for k in (0, 1))

    def options() -> dict[str, Any]:
        return {"eps": _ACCURACY, "nthreads": torch.get_num_threads()}

    def ahead(x: Tensor) -> Tensor:
        seen = np.ascontiguousarray(_doubled(x) * maps).reshape(-1, h, w)
        found = finufft.nufft2d2(u, v, seen, isign=-1, **options())
        return torch.from_numpy(scale * found.reshape(-1, coils, 1, len(u))).to(x)

    def back(y: Tensor) -> Tensor:
        lines = np.ascontiguousarray(_doubled(y)).reshape(-1, len(u))
        seen = finufft.nufft2d1(u, v, lines, (h, w), isign=1, **options())
        found = (maps.conj() * seen.reshape(-1, coils, h, w)).sum(1, keepdims=True)
        return torch.from_numpy(scale * found).to(y)

    return ahead, back


def _doubled(x: Tensor) -> Any:
    return x.detach().cpu().resolve_conj().to(torch.complex128).numpy()


def _size(size: object) -> tuple[int, int]:
    match size:
        case (int(h), int(w)) if min(h, w) > 0:
            return (h, w)
        case _:
            raise InputError("size must be (h, w), both positive", given=size)


def _points(points: object, h: int, w: int) -> Any:
    found = real_tensor(points, "points", (2,)).double().cpu()
    if found.shape[1] != 2:
        raise InputError("points must have shape (m, 2)", given=tuple(found.shape))
    if bool((found.abs() > torch.tensor([h / 2, w / 2]) * (1 + 1e-6)).any()):
        given = f"values up to {float(found.abs().max()):.4g} for an image of {h}x{w}"
        advice = "of radians a pixel, u is h/(2π) times as large"
        raise InputError("points must lie within ±h/2, ±w/2", given=given, advice=advice)
    return found.numpy()


def _maps(sensitivities: object, h: int, w: int) -> Any:
    if sensitivities is None:
        return np.ones((1, h, w), complex)
    check_constant(sensitivities, "sensitivities")
    maps = torch.as_tensor(sensitivities).detach().cpu()
    if not maps.is_complex() or maps.ndim != 3 or maps.shape[1:] != (h, w) or not len(maps):
        expected = f"sensitivities must be complex, (coils, h, w) with (h, w) = {(h, w)}"
        raise InputError(expected, given=f"{maps.dtype} {tuple(maps.shape)}")
    check_finite(torch.view_as_real(maps), "sensitivities")
    return maps.to(torch.complex128).numpy()
