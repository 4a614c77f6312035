"""Use a fit: adapt it to images of any size, reconstruct them batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bilevel.cli.config import Configuration, read, restore
from bilevel.cli.config.reading import table_in, text_in
from bilevel.cli.images import Batch
from bilevel.data import Pairs, simulate
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.learn import Fit, load
from bilevel.model import Variational
from bilevel.model.fidelities import ObservedL2
from bilevel.model.operators import FourierMask, Mask, MultiCoil, Operator, Shape
from bilevel.model.operators.accompanied import Accompanied
from bilevel.report import Samples
from bilevel.solve import Solution

__all__ = ["CONFIGURATION", "FREE", "Answer", "Reconstructor", "simulated"]

CONFIGURATION = "config.toml"
"""What `bilevel learn` calls its copy of the configuration."""

FREE = ("budget", "output")
"""Tables that may change after a fit was begun."""
_PIXELS = 2**20  # so many are reconstructed at once: memory stays small


def simulated(configuration: Configuration, batch: Batch) -> Pairs:
    """The data that were measured of images, or such with the configured operator and noise.

    Raises:
        InputError: images alone, and no noise is configured.
    """
    images = batch.images.to(configuration.dtype)
    if batch.y is not None:
        return Pairs(batch.y.to(configuration.dtype), images, batch.ids)
    operator = configuration.forward(batch.shape, batch.seen)
    return simulate(
        images,
        operator,
        configuration.drawn(operator.data_shape(batch.shape)),
        configuration.data.seed,
        batch.ids,
    )


@dataclass(frozen=True, eq=False)
class Answer:
    """Reconstructions (k, c, h, w), certified rms distances (k,) and how the solves ended (k,)."""

    x: Tensor
    certificate: Tensor
    status: Tensor


@dataclass(frozen=True)
class Reconstructor:
    """A fit with its configuration; ``accuracy`` is the rms distance asked for [grey value].

    A thousandth of the contrast of the images if it is None. Where no strong convexity of use is
    proved, the rms of the gradient is brought to 1 % of it instead.
    """

    fit: Fit
    configuration: Configuration
    accuracy: float | None = None

    @staticmethod
    def load(folder: Path, accuracy: float | None) -> Reconstructor:
        """From a folder that ``bilevel learn`` wrote, or is writing.

        Raises:
            InputError: no fit, a damaged one, or one that was saved without a configuration.
        """
        fit, text = load(folder), folder / CONFIGURATION
        advice = "use a folder that `bilevel learn` wrote"
        if not isinstance(fit.energy, Variational):
            raise InputError(f"the fit in '{folder}' has an energy of its own", advice=advice)
        if fit.configuration:
            _check_untouched(text, fit)
            configuration = restore(fit.configuration, f"the configuration in '{folder}'")
        elif text.is_file():
            configuration = read(text).configuration
        else:
            raise InputError(f"the fit in '{folder}' holds no configuration", advice=advice)
        _check_same(fit.energy, configuration, folder)
        if accuracy is not None:
            check_positive(accuracy, "the accuracy")
        return Reconstructor(fit, configuration, accuracy)

    def samples(
        self, pairs: Pairs, done: Callable[[int], None], seen: Tensor | None = None
    ) -> Samples:
        """Reconstructions beside the truth, where data show it.

        ``done`` hears after each batch how many it had.
        """
        _, c, h, w = pairs.target.shape
        fit, y = self._adapted((c, h, w), seen), pairs.y
        answer = self._answer(fit, y, (c, h, w), done)
        rows, columns = self.configuration.forward((c, h, w), seen).window((c, h, w))
        x, target = (images[..., rows, columns] for images in (answer.x, pairs.target))
        whole = y.shape == target.shape
        before = y if whole else fit.energy.start(y).detach()[..., rows, columns]
        return Samples(pairs.ids, before, x, target, answer.certificate, answer.status)

    def answer(self, y: Tensor, done: Callable[[int], None], seen: Tensor | None = None) -> Answer:
        """Reconstructions from data (k, c', h', w'), all of them ``seen`` (h', w') if None.

        Raises:
            InputError: data that do not fit.
        """
        shape = self.configuration.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        fit = self._adapted(shape, seen)
        return self._answer(fit, y.to(self.configuration.dtype), shape, done)

    def begin(self, y: Tensor, seen: Tensor | None = None) -> Tensor:
        """What one has without reconstruction: the data, or the start where they are no images."""
        shape = self.configuration.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        y = y.to(self.configuration.dtype)
        return y if y.shape[1:] == shape else self._adapted(shape, seen).energy.start(y).detach()

    def _adapted(self, shape: Shape, seen: Tensor | None = None) -> Fit:
        """The same parameters, with an operator for that size."""
        energy = cast(Variational, copy.deepcopy(self.fit.energy))
        operator = self.configuration.forward(shape, seen)
        if isinstance(energy.fidelity, ObservedL2):
            energy.fidelity = energy.fidelity.shared(operator)
        else:
            energy.fidelity.operator = operator
        return replace(self.fit, energy=energy)

    def _answer(self, fit: Fit, y: Tensor, shape: Shape, done: Callable[[int], None]) -> Answer:
        _, h, w = shape
        found: list[Solution] = []
        for part in torch.split(y, max(1, _PIXELS // (h * w))):
            found.append(
                fit.reconstruct(part, fit.tolerance(fit.energy.at(part), part, self.accuracy))
            )
            done(len(part))
        return Answer(
            torch.cat([s.x for s in found]),
            torch.cat([s.certificate.rms for s in found]),
            torch.cat([s.status for s in found]),
        )


def _check_untouched(copy: Path, fit: Fit) -> None:
    """The copy of the configuration, where it lies there, says what the fit was learned with."""
    if not copy.is_file():
        return
    there, known = (table_in(copy, text) for text in (text_in(copy), fit.source))
    if any(there.get(k) != known.get(k) for k in {*there, *known} - set(FREE)):
        what = f"'{copy}' is not what the fit beside it was learned with"
        advice = "undo what was changed in it, or learn anew"
        raise InputError(what, advice=advice)


def _check_same(energy: Variational, configuration: Configuration, folder: Path) -> None:
    """The configuration builds the operator of the saved energy, and may do so for other sizes."""
    own = energy.fidelity.operator
    own = own.operator if isinstance(own, Accompanied) else own
    tensors = [t for t in own.options().values() if isinstance(t, Tensor)]
    sizes = [t.shape[-2:] for t in tensors if t.ndim >= 2]
    seen = _seen(own) if configuration.data.measured is not None else None
    h, w = sizes[0] if sizes else configuration.probe if seen is None else seen.shape
    try:
        meant = configuration.forward((configuration.data.channels, h, w), seen)
    except InputError:
        meant = None
    if meant is None or not _same(own, meant):
        what = f"the fit in '{folder}' has another operator than its configuration builds"
        advice = "reconstruct with fit.reconstruct in Python, or learn anew"
        raise InputError(what, given=f"{type(own).__name__} and [operator]", advice=advice)


def _seen(own: Operator) -> Tensor | None:
    """Which data exist, where those that were measured said so; None where all do."""
    masks = (m.mask for m in own.modules() if isinstance(m, Mask | FourierMask | MultiCoil))
    return next(masks, None)


def _same(one: Operator, other: Operator) -> bool:
    """Whether two operators are of one kind with the same options, to rounding."""
    first, second = one.options(), other.options()
    if type(one) is not type(other) or first.keys() != second.keys():
        return False
    return all(_equal(first[key], second[key]) for key in first)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Operator) and isinstance(other, Operator):
        return _same(one, other)
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return bool(one == other)
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and bool(torch.allclose(one, other.to(one.device), rtol=1e-5, atol=1e-7))
