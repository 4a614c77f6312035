"""Images that go on as their mirror images, and what filters make of them: proved norms.

An image is extended by r = (k - 1)//2 pixels at either end of an axis, for filters of k taps there;
r = 0 leaves it as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bilevel.model.regularisers import lags

__all__ = ["Margin", "folded", "gram_norm", "mirrored", "response_norms"]

Margin = tuple[int, int]
"""r of rows and columns."""


def mirrored(x: Tensor, margin: Margin) -> Tensor:
    """(..., h, w) -> (..., h + 2 r, w + 2 r'), the pixel at an end twice.

    Example:
        >>> mirrored(torch.tensor([[1, 2, 3]]), (0, 1))
        tensor([[1, 1, 2, 3, 3]])
    """
    for dim, r in zip((-2, -1), margin, strict=True):
        if r:
            head, tail = x.narrow(dim, 0, r), x.narrow(dim, x.shape[dim] - r, r)
            x = torch.cat([head.flip(dim), x, tail.flip(dim)], dim)
    return x


def folded(z: Tensor, margin: Margin) -> Tensor:
    """The adjoint of :func:`mirrored`, for images of 2 r pixels or more.

    Example:
        >>> folded(torch.tensor([[1, 2, 3, 4, 5]]), (0, 1))
        tensor([[3, 3, 9]])
    """
    for dim, r in zip((-2, -1), margin, strict=True):
        if r:
            n = z.shape[dim] - 4 * r
            before, head, inside, tail, after = torch.split(z, [r, r, n, r, r], dim)
            parts = [head + before.flip(dim), inside, tail + after.flip(dim)]
            z = torch.cat(parts, dim)
    return z


def gram_norm(filters: Tensor, scale: Tensor, size: tuple[int, int], margin: Margin) -> Tensor:
    """A proved bound of ‖Kᵀ diag(scale) K‖, K x the responses where filters fit into what is there.

    Without a margin they are a crop of circular ones: max_ω Σ_j scale_j |k̂_j(ω)|². With one, split
    k_j into four parts k_jp, each even or odd along each axis. Their responses on the image have a
    quarter at most of the energy of those to its symmetric extension, which has the frequencies ω
    of the DCT, so that by the inequality of Cauchy and Schwarz with shares t_jp, Σ_p t_jp = 1,

        ‖Kᵀ diag(scale) K‖ <= max_ω Σ_j scale_j Σ_p |k̂_jp(ω)|²/t_jp,

    the smaller of that with ‖k_jp‖/Σ_q ‖k_jq‖, exact for single filters of odd sides and one parity
    as those of the DCT, and with 1/4. Channels are summed by that inequality too. Rounding is
    counted in.

    Args:
        filters: (m, c, k, k').
        scale: of every filter, not negative, m numbers.
        size: of the images, which filters fit into.
        margin: they were extended by.
    """
    weights, bank = scale.detach().double().reshape(1, -1), filters.detach().double()
    if not any(margin):
        return _largest(bank[None], weights, size, size) * (1 + 1e-11)
    parts, period = _parities(bank), (2 * size[0], 2 * size[1])
    norms = _norms(parts)
    shares = torch.where(norms > 0, norms / norms.sum(0), 1.0)
    bounds = [_largest(parts, weights / share, period, size) for share in (shares, 0.25)]
    return torch.stack(bounds).amin() * (1 + 1e-11)


def _largest(
    parts: Tensor, weights: Tensor, period: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """max Σ_pj weight_pj |k̂_pj|² over the first frequencies of each axis, channels summed."""
    apart = (weights.sqrt()[..., None, None, None] * parts).flatten(0, 2)[:, None]
    power = lags.spectrum(lags.gram(apart), period).real
    return power[..., : size[0], : size[1]].max()


def response_norms(filters: Tensor, margin: Margin) -> Tensor:
    """The largest norm of what a response takes from the pixels, mirror images folded, (m,).

    In float64, for images that the filters fit into.
    """
    filters = filters.detach().double()
    norms = [
        _norms(torch.einsum("ak,mckl,bl->mcab", rows, filters, columns))
        for rows in _foldings(filters, -2, margin[0])
        for columns in _foldings(filters, -1, margin[1])
    ]
    return torch.stack(norms).amax(0)


def _norms(filters: Tensor) -> Tensor:
    return filters.square().sum((-3, -2, -1)).sqrt()


def _foldings(filters: Tensor, dim: int, r: int) -> list[Tensor]:
    """Matrices (pixels, taps) for the places where mirror images are seen, and inside."""
    taps = filters.shape[dim]
    found = list[Tensor]()
    for hidden in range(r + 1):  # taps before the first pixel
        place = torch.arange(taps, device=filters.device) - hidden
        pixel = torch.where(place < 0, -1 - place, place)
        matrix = torch.nn.functional.one_hot(pixel, taps).T.to(filters)
        found += [matrix, matrix.flip(0, 1)] if hidden else [matrix]
    return found


def _parities(filters: Tensor) -> Tensor:
    """Even and odd parts along both axes, (4, m, c, k, k'), whose sum is the filter."""
    parts = [filters]
    for dim in (-2, -1):
        parts = [(one + sign * one.flip(dim)) / 2 for one in parts for sign in (1, -1)]
    return torch.stack(parts)
