"""Samples that were measured: data and the images that they are of, read from files."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from bilevel.data.crops import check_crops, check_size, corner, crop
from bilevel.data.files import Files
from bilevel.data.matching import matched
from bilevel.data.samples import Batch, Samples
from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint
from bilevel.model.operators import Convolution, Identity, Operator
from bilevel.model.operators.operator import Shape

__all__ = ["Recorded"]

Source = str | Path | Iterable[str | Path] | Files


class Recorded(Samples):
    """Measured pairs, matched by name or by number, each read whenever it is needed.

    Files of one stem belong together (``noisy/a.png`` and ``sharp/a.npy``), or one file and one
    other; the pages of stacks are matched by number. All are read once at the beginning: what lacks
    a partner or does not fit is found before any work, and the fingerprint is that of all values.

    Args:
        measured: the data: a folder, a file, a pattern, a list of files, or :class:`Files`.
        target: the images that they are of, in the same units as reconstructions are wanted in.
        operator: what is to explain the data, for their sizes; the identity if None.
        size: side of random crops [pixel], taken from both at the same place; whole images if None.
            Only of data that are pixels or convolutions with ``boundary="valid"``.
        count: how many samples; one an image if None.
        seed: another seed, other crops.

    Raises:
        InputError: files that cannot be read, lack a partner or do not fit each other, crops that
            are impossible, or more samples than images without ``size``.

    Example:
        >>> import bilevel as bl
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for kind in ("noisy", "sharp"):
        ...         Path(folder, kind).mkdir()
        ...         bl.data.save_image(f"{folder}/{kind}/a.npy", torch.rand(1, 8, 8))
        ...     pairs = Recorded(f"{folder}/noisy", f"{folder}/sharp")
        ...     pairs.ids, pairs.batch(torch.tensor([0])).y.shape
        (('a.npy',), torch.Size([1, 1, 8, 8]))
    """

    def __init__(
        self,
        measured: Source,
        target: Source,
        operator: Operator | None = None,
        *,
        size: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        """Find and match the files."""
        self.measured, self.target = _files(measured), _files(target)
        self.operator = Identity() if operator is None else operator
        self.size, self.seed = size, seed
        self.pairs = matched(self.measured, self.target)
        self._looked_at: dict[tuple[int, int], tuple[str, Shape, str]] = {}
        self._begin(count)

    def some(
        self,
        numbers: Sequence[int],
        *,
        size: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> Recorded:
        """Those pairs in that order, or crops of them; as for the class.

        Raises:
            InputError: as there.
        """
        chosen = copy.copy(self)
        for name in ("groups", "fingerprint"):
            vars(chosen).pop(name, None)
        chosen.pairs = [self.pairs[k] for k in numbers]
        chosen.size, chosen.seed = size, seed
        chosen._begin(count)
        return chosen

    def _begin(self, count: int | None) -> None:
        """Look at every pair, once."""
        size = self.size
        count = len(self.pairs) if count is None else count
        check_crops(len(self.pairs), count)
        if size is None and count > len(self.pairs):
            advice = "ask for crops with size=..., or for fewer samples"
            raise InputError(f"there are {len(self.pairs)} pairs", given=count, advice=advice)
        if size is not None and not _local(self.operator):
            what = "crops of data belong to crops of images in denoising, or behind a convolution "
            what += 'with boundary = "valid", alone'
            raise InputError(what, given=type(self.operator).__name__, advice="leave size out")
        names: list[str] = []
        shapes: list[tuple[Shape, Shape]] = []
        self._contents: list[str] = []
        for pair in self.pairs[: None if size is not None else count]:
            if pair not in self._looked_at:
                self._looked_at[pair] = self._look(pair)
            name, shape, content = self._looked_at[pair]
            names.append(name)
            self._contents.append(content)
            if size is not None:
                check_size((shape[1], shape[2]), (size, size), name)
                shape = (shape[0], size, size)
            shapes.append((self.operator.data_shape(shape), shape))
        self._shapes = shapes
        images = len(names)
        self.ids = (
            tuple(names)
            if size is None
            else tuple(f"{names[k % images]}#{k // images}" for k in range(count))
        )

    @cached_property
    def groups(self) -> Tensor:
        """By the sizes of data and targets."""
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(self._shapes))}
        of_images = torch.tensor([numbers[shape] for shape in self._shapes])
        return of_images[torch.arange(len(self)) % len(of_images)]

    def batch(self, index: Tensor) -> Batch:
        """Read from the files."""
        y, x = zip(*(self._sample(int(k)) for k in index), strict=True)
        return Batch(torch.cat(y), torch.cat(x))

    def seen(self, number: int) -> Tensor | None:
        """Which data (h', w') of a sample exist; None if all do.

        Where not, y is 0, and an operator is needed that does not see them either.
        """
        whole = self.measured.seen(self.pairs[number % len(self._shapes)][0])
        return whole if whole is None else self._cut(number, whole[None, None])[0, 0]

    @cached_property
    def fingerprint(self) -> str:
        """Of all ids and all values."""
        return fingerprint([*self.ids, *self._contents])

    def _sample(self, k: int) -> tuple[Tensor, Tensor]:
        _, y, x = self._whole(self.pairs[k % len(self._shapes)])
        return self._cut(k, y), x if self.size is None else crop(
            x, self.size, self.ids[k], self.seed
        )

    def _cut(self, k: int, y: Tensor) -> Tensor:
        """The data of a sample, of those of its image."""
        if self.size is None:
            return y
        (_, h, w), (_, size, _) = self._shapes[k % len(self._shapes)]
        whole = (y.shape[2] + size - h, y.shape[3] + size - w)
        top, left = corner(whole, size, self.ids[k], self.seed)
        return y[:, :, top : top + h, left : left + w]

    def _look(self, pair: tuple[int, int]) -> tuple[str, Shape, str]:
        """Name, size of the image and fingerprint of the values, which must fit each other."""
        name, y, x = self._whole(pair)
        shape = (x.shape[1], x.shape[2], x.shape[3])
        self._check(name, y, shape)
        seen = self.measured.seen(pair[0])
        return name, shape, fingerprint([], y, x, *([] if seen is None else [seen]))

    def _whole(self, pair: tuple[int, int]) -> tuple[str, Tensor, Tensor]:
        name, y = self.measured[pair[0]]
        return name, y, self.target[pair[1]][1]

    def _check(self, name: str, y: Tensor, shape: Shape) -> None:
        """Data of that shape must be what the operator makes of such an image."""
        given = (y.shape[1], y.shape[2], y.shape[3])
        try:
            expected = self.operator.data_shape(shape)
        except InputError as error:
            raise InputError(f"the target of {name}: {error}") from error
        if given != expected:
            kind = type(self.operator).__name__
            what = f"the target of {name} has {_words(shape)}, of which {kind} makes data of "
            raise InputError(f"{what}{_words(expected)}", given=_words(given))


def _files(source: Source) -> Files:
    return source if isinstance(source, Files) else Files(source)


def _local(operator: Operator) -> bool:
    """Whether crops of data are data of crops."""
    whole = isinstance(operator, Convolution) and operator.boundary == "valid"
    return whole or isinstance(operator, Identity)


def _words(shape: Shape) -> str:
    c, h, w = shape
    return f"{h}x{w} pixels" if c == 1 else f"{h}x{w} pixels and {c} channels"
