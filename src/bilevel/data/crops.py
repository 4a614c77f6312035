"""Cutting images: random crops that depend on names, overlapping patches, centres."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator

__all__ = [
    "centre_crop",
    "check_crops",
    "check_size",
    "corner",
    "crop",
    "crops",
    "patches",
    "turned",
]


def crops(
    images: Sequence[tuple[str, Tensor]], size: int, count: int, seed: int = 0
) -> tuple[Tensor, tuple[str, ...]]:
    """Random crops (count, c, size, size), taken from the images in turn, and their ids.

    The j-th crop of an image depends only on ``seed``, the image's id and j: asking for more crops
    keeps the first ones, and other images do not move it.

    Args:
        images: pairs (id, image (1, c, h, w)) with ids all different.
        size: side of a crop [pixel].
        count: how many crops.
        seed: another seed, other crops.

    Raises:
        InputError: no images, a count below 1, an image smaller than the crop, or mixed channels.

    Example:
        >>> x, ids = crops([("a", torch.rand(1, 1, 9, 9)), ("b", torch.rand(1, 1, 8, 8))], 4, 3)
        >>> x.shape, ids
        (torch.Size([3, 1, 4, 4]), ('a#0', 'b#0', 'a#1'))
    """
    check_crops(len(images), count)
    if len({name for name, _ in images}) < len(images):
        raise InputError("the ids of the images must be all different")
    if len({image.shape[1] for _, image in images}) > 1:
        advice = "load them with grey=True, or with grey=False"
        raise InputError("grey and colour images are mixed", advice=advice)
    cut: list[Tensor] = []
    ids: list[str] = []
    for k in range(count):
        name, image = images[k % len(images)]
        ids.append(f"{name}#{k // len(images)}")
        cut.append(crop(image, size, ids[-1], seed))
    return torch.cat(cut), tuple(ids)


def crop(image: Tensor, size: int, name: str, seed: int) -> Tensor:
    """The crop of that name, (1, c, size, size).

    Raises:
        InputError: an image smaller than the crop.
    """
    check_size(image.shape[2:], (size, size), name.rpartition("#")[0] or name)
    top, left = corner((image.shape[2], image.shape[3]), size, name, seed)
    return image[:, :, top : top + size, left : left + size]


def corner(sides: tuple[int, int], size: int, name: str, seed: int) -> tuple[int, int]:
    """Where the crop of that name begins in an image of that height and width."""
    rng = generator(seed, "crop", name)
    top, left = (int(torch.randint(side - size + 1, (), generator=rng)) for side in sides)
    return top, left


def turned(x: Tensor, turns: int) -> Tensor:
    """One of the eight ways to turn and mirror, 0 to 7; of the four that keep the shape otherwise.

    Example:
        >>> x = torch.arange(4.0).view(1, 1, 2, 2)
        >>> len({tuple(turned(x, k).flatten().tolist()) for k in range(8)})
        8
    """
    if turns & 1:
        x = x.flip(2)
    if turns & 2:
        x = x.flip(3)
    return x.transpose(2, 3) if turns & 4 and x.shape[2] == x.shape[3] else x


def check_crops(images: int, count: int) -> None:
    """Raise InputError without images or samples."""
    if not images:
        raise InputError("crops need at least one image")
    if count < 1:
        raise InputError("the number of crops must be at least 1", given=count)


def check_size(sides: tuple[int, ...], size: tuple[int, int], name: str) -> None:
    """Raise InputError unless a crop fits into an image of that height and width."""
    if min(size) < 1:
        raise InputError("a crop must have at least one pixel", given=size)
    if sides[0] < size[0] or sides[1] < size[1]:
        raise InputError(
            f"{name} of {sides[0]}x{sides[1]} pixels is smaller than the crop",
            given=f"{size[0]}x{size[1]}",
        )


def patches(x: Tensor, size: int, stride: int) -> Tensor:
    """All patches of ``size`` every ``stride`` pixels: (b, c, h, w) -> (n, c, size, size).

    Row by row of the first image, then of the next; what does not fill a patch is left out.

    Raises:
        InputError: an image smaller than the patch, or a stride below 1.

    Example:
        >>> patches(torch.rand(1, 1, 5, 7), size=3, stride=2).shape
        torch.Size([6, 1, 3, 3])
    """
    if stride < 1:
        raise InputError("the stride must be at least 1 pixel", given=stride)
    check_size(x.shape[2:], (size, size), "the image")
    windows = x.unfold(2, size, stride).unfold(3, size, stride)  # (b, c, rows, columns, s, s)
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], size, size)


def centre_crop(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """The middle of each image: (b, c, h, w) -> (b, c, *size).

    Raises:
        InputError: an image smaller than ``size``.

    Example:
        >>> centre_crop(torch.arange(5.0).reshape(1, 1, 1, 5), (1, 3)).flatten()
        tensor([1., 2., 3.])
    """
    size = (size, size) if isinstance(size, int) else size
    check_size(x.shape[2:], size, "the image")
    top, left = ((side - part) // 2 for side, part in zip(x.shape[2:], size, strict=True))
    return x[:, :, top : top + size[0], left : left + size[1]]
