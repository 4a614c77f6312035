"""Samples made from sharp images: at once in memory, or whenever they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from bilevel.data.crops import check_crops, crop, turned
from bilevel.data.files import Files
from bilevel.data.noise import GaussianNoise, Noise
from bilevel.data.pairs import Pairs
from bilevel.data.samples import Batch, Samples, check_ids
from bilevel.ground.checks import check_images
from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint
from bilevel.ground.randomness import generator
from bilevel.model.operators.operator import Operator

__all__ = ["Simulated", "drawn_levels", "simulate"]

_CHUNK = 32


def simulate(
    images: Tensor,
    operator: Operator,
    noise: Noise,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> Pairs:
    """Pairs y_k = A x̃_k + noise from sharp images x̃ (K, c, h, w) [grey value].

    The noise of a sample depends only on ``seed`` and its id: it stays the same in any batch and
    any order.

    Args:
        images: the ground truth.
        operator: the forward map A.
        noise: what disturbs the data.
        seed: another seed, other noise.
        ids: one a sample, all different; "0", "1", ... unless given.

    Raises:
        InputError: images that the operator or the noise cannot take, or ids that do not fit.
    """
    check_images(images, "images")
    ids = tuple(str(k) for k in range(len(images))) if ids is None else tuple(ids)
    check_ids(ids, len(images))
    operator.data_shape((images.shape[1], images.shape[2], images.shape[3]))
    return Pairs(_measured(images, ids, operator, noise, seed), images, ids)


class Simulated(Samples):
    """The samples of ``simulate``, made whenever they are needed: memory is that of a batch.

    With ``size`` they are crops, taken from the images in turn, each at another place with other
    noise: with a count in the millions, a stream of samples of which none comes twice. The same
    crop of the same image has the same place and noise in any order, and the crops of
    :func:`crops` are these.

    Args:
        images: pairs (id, image (1, c, h, w) [grey value]); a list, or a sequence that reads files
            (:class:`Files`). Their sizes may differ.
        operator: the forward map A.
        noise: what disturbs the data.
        seed: another seed, other crops and noise.
        size: side of the crops [pixel]; whole images if None.
        count: how many samples; one an image if None.
        augment: turn and mirror the crops at random, in one of eight ways each.

    Raises:
        InputError: images that the operator cannot take or that are smaller than a crop, or more
            samples than images, or ``augment``, without ``size``.

    Example:
        >>> import bilevel as bl
        >>> images = [("a", torch.rand(1, 1, 9, 9)), ("b", torch.rand(1, 1, 8, 8))]
        >>> blur, noise = bl.operators.Identity(), bl.data.GaussianNoise(0.1)
        >>> stream = Simulated(images, blur, noise, size=4, count=1000)
        >>> stream.ids[998:], stream.batch(torch.tensor([3, 998])).y.shape
        (('a#499', 'b#499'), torch.Size([2, 1, 4, 4]))
    """

    def __init__(
        self,
        images: Sequence[tuple[str, Tensor]] | Files,
        operator: Operator,
        noise: Noise,
        *,
        seed: int = 0,
        size: int | None = None,
        count: int | None = None,
        augment: bool = False,
    ) -> None:
        """Look at every image once."""
        self.images, self.operator, self.noise = images, operator, noise
        self.seed, self.size, self.augment = seed, size, augment
        if augment and size is None:
            raise InputError("only crops are turned and mirrored", advice="ask for them with size")
        if not isinstance(images, (list, tuple, Files)):
            advice = "a list of pairs, or bl.data.Files(folder)"
            given = type(images).__name__
            raise InputError("images must be pairs (id, image)", given=given, advice=advice)
        for name, number in (("size", size), ("count", count)):
            if number is not None and type(number) is not int:
                raise InputError(f"{name} must be a whole number", given=repr(number)[:60])
        count = len(images) if count is None else count
        check_crops(len(images), count)
        if size is None and count > len(images):
            advice = "ask for crops with size=..., or for fewer samples"
            raise InputError(f"there are {len(images)} images", given=count, advice=advice)
        seen = [_Seen(name, image, size) for name, image in images]
        check_ids(tuple(one.name for one in seen), len(images))
        self._content = [one.content for one in seen]
        shapes = [one.shape if size is None else (one.shape[0], size, size) for one in seen]
        for shape in dict.fromkeys(shapes):
            operator.data_shape(shape)
        self._shapes = shapes
        names = [one.name for one in seen]
        self.ids = tuple(names[:count] if size is None else _of_crops(names, count))
        self._last: tuple[list[int], Batch] | None = None

    @cached_property
    def groups(self) -> Tensor:
        """By the sizes of the images."""
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(self._shapes))}
        of_images = torch.tensor([numbers[shape] for shape in self._shapes])
        return of_images[torch.arange(len(self)) % len(of_images)]

    def batch(self, index: Tensor) -> Batch:
        """Cut, measured and disturbed anew; the last batch asked for is kept."""
        wanted = [int(k) for k in index]
        if self._last is None or self._last[0] != wanted:
            x = torch.cat([self._image(k) for k in wanted])
            ids = [self.ids[k] for k in wanted]
            y = _measured(x, ids, self.operator, self.noise, self.seed)
            self._last = wanted, Batch(y, x)
        return self._last[1]

    def _image(self, k: int) -> Tensor:
        name, image = self.images[k % len(self.images)]
        if self.size is None:
            return image
        own = f"{name}#{k // len(self.images)}"
        found = crop(image, self.size, own, self.seed)
        if not self.augment:
            return found
        return turned(found, int(torch.randint(8, (), generator=generator(self.seed, "turn", own))))

    @cached_property
    def fingerprint(self) -> str:
        """Of all images, the ids, and data of the first samples."""
        first = (batch.y for batch in self.batches(self.few(), _CHUNK))
        return fingerprint([*self.ids, *self._content], *first)


def drawn_levels(noise: Noise, ids: Sequence[str], seed: int = 0) -> Tensor | None:
    """The level σ that :func:`simulate` drew for each sample, (K,) float64; None if none was drawn.

    Example:
        >>> from bilevel.data import GaussianNoise
        >>> levels = drawn_levels(GaussianNoise((0.05, 0.15)), ["a", "b"])
        >>> bool(((levels >= 0.05) & (levels < 0.15)).all())
        True
    """
    if not (isinstance(noise, GaussianNoise) and isinstance(noise.sigma, tuple)):
        return None
    found = [noise.level(generator(seed, "noise", name)) for name in ids]
    return torch.tensor(found, dtype=torch.float64)


class _Seen:
    """What is remembered of an image that was looked at once."""

    def __init__(self, name: str, image: Tensor, size: int | None) -> None:
        check_ids((name,), 1)
        check_images(image, name)
        if len(image) != 1:
            raise InputError(f"{name} must be one image (1, c, h, w)", given=tuple(image.shape))
        if size is not None:
            crop(image, size, name, 0)
        self.name, self.content = name, fingerprint([], image)
        self.shape = (image.shape[1], image.shape[2], image.shape[3])


def _of_crops(names: Sequence[str], count: int) -> Iterable[str]:
    return (f"{names[k % len(names)]}#{k // len(names)}" for k in range(count))


def _measured(x: Tensor, ids: Sequence[str], operator: Operator, noise: Noise, seed: int) -> Tensor:
    """A x + noise, with the noise of these ids."""
    with torch.no_grad():
        clean = torch.cat([operator(part) for part in torch.split(x, _CHUNK)])
    draws = zip(torch.split(clean, 1), ids, strict=True)
    return torch.cat([noise.sample(y, generator(seed, "noise", name)) for y, name in draws])
