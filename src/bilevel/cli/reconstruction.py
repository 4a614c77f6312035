"""Use a fit, or the weights of a configuration, on images of any size, a few at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bilevel.cli.config import Configuration, plain, read, restore
from bilevel.cli.config.noise import check_level
from bilevel.cli.config.reading import table_in, text_in
from bilevel.cli.console import say
from bilevel.cli.images import Batch
from bilevel.cli.settings.forward import of_operator
from bilevel.data import Pairs, simulate
from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint
from bilevel.learn import Fit, Status, load
from bilevel.learn.reconstruction import tolerance_of
from bilevel.model import Cost, Objective, Variational
from bilevel.model.fidelities import Accompanied
from bilevel.model.operators import FourierMask, Mask, MultiCoil, Operator, Shape
from bilevel.report import Samples
from bilevel.solve import Solution, minimise
from bilevel.solve.solvers import accelerated

__all__ = ["CONFIGURATION", "FREE", "Answer", "Reconstructor", "as_given", "simulated"]

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
        with of_operator():
            configuration.operator.check_measured()
        return Pairs(batch.y.to(configuration.dtype), images, batch.ids)
    if configuration.operator.of_samples:
        what = "operators of samples go with measured data, and these are images"
        raise InputError(what, advice="give --measured and --target")
    operator = configuration.forward(batch.shape)
    noise = configuration.drawn(operator.data_shape(batch.shape))
    advice = "give noise.sigma in the units of the images, e.g. 25/255 for pictures from 0 to 1"
    check_level(noise, float(images.max() - images.min()), "these images", advice)
    pairs = simulate(images, operator, noise, configuration.data.seed, batch.ids)
    return configuration.operator.aligned(pairs, operator)


def as_given(configuration: Configuration, energy: Variational, source: str = "") -> Fit:
    """A fit of which nothing was learned: its parameters are those given."""
    unit = configuration.loss.build().unit
    fit = Fit.of(energy, {}, [], Status.GIVEN, Cost(), unit)
    return replace(fit, configuration=plain(configuration), source=source)


@dataclass(frozen=True, eq=False)
class Answer:
    """Reconstructions (k, c, h, w), and of each what is proved and how its solve ended: (k,) each.

    ``certificate`` is the certified rms distance, to what ``claim`` names; gradients and seconds
    of images that were solved together are shared by their steps. All lies on the processor.
    """

    x: Tensor
    certificate: Tensor
    gap: Tensor
    residual: Tensor
    claim: Tensor
    status: Tensor
    steps: Tensor
    gradients: Tensor
    seconds: Tensor

    @staticmethod
    def of(solution: Solution, x: Tensor, cost: Cost) -> Answer:
        """The images ``x`` of a solution, and what it cost."""
        proved, steps = solution.certificate, solution.steps.cpu()
        share = (steps + 1).double() / (steps + 1).sum()
        return Answer(
            x=x.cpu(),
            certificate=proved.rms.cpu(),
            gap=proved.gap.cpu(),
            residual=proved.residual.cpu(),
            claim=proved.claim.cpu(),
            status=solution.status.cpu(),
            steps=steps,
            gradients=(cost.gradient_evaluations * share).round().long(),
            seconds=cost.seconds * share,
        )


@dataclass(frozen=True)
class Reconstructor:
    """A fit with its configuration; ``accuracy`` is the rms distance asked for [grey value].

    A thousandth of the contrast of the images if it is None. Where no strong convexity of use is
    proved, the rms of the gradient is brought to 1 % of it instead. What a configuration that was
    not learned from leaves to the data is taken from each batch of data.
    """

    fit: Fit
    configuration: Configuration
    accuracy: float | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    is_configuration: bool = False
    _last: dict[tuple[Shape, torch.dtype], Variational] = field(
        default_factory=dict[tuple[Shape, torch.dtype], Variational], repr=False
    )

    @staticmethod
    def load(
        source: Path, accuracy: float | None, device: torch.device | None = None
    ) -> Reconstructor:
        """From a folder that ``bilevel learn`` wrote, or is writing; or a configuration as it is.

        Raises:
            InputError: no fit, a damaged one, or one that was saved without a configuration; a
                configuration with a mistake; an accuracy that is not positive.
        """
        if accuracy is not None:
            check_positive(accuracy, "the accuracy")
        device = device or torch.device("cpu")
        if source.suffix.lower() == ".toml":
            document = read(source)
            configuration = document.configuration
            energy = configuration.energy((configuration.data.channels, *configuration.probe))
            fit = as_given(configuration, energy, document.text)
            return Reconstructor(fit, configuration, accuracy, device, is_configuration=True)
        fit, text = load(source), source / CONFIGURATION
        advice = "use a folder that `bilevel learn` wrote"
        if not isinstance(fit.energy, Variational):
            raise InputError(f"the fit in '{source}' has an energy of its own", advice=advice)
        if fit.configuration:
            _check_untouched(text, fit)
            configuration = restore(fit.configuration, f"the configuration in '{source}'")
        elif text.is_file():
            configuration = read(text).configuration
        else:
            raise InputError(f"the fit in '{source}' holds no configuration", advice=advice)
        _check_same(fit.energy, configuration, source)
        return Reconstructor(fit, configuration, accuracy, device)

    @property
    def content(self) -> str:
        """A fingerprint of all numbers in it: parameters, and those of the operator."""
        operator = self.configuration.forward(self._probe)
        options = {**operator.options(), **self.fit.energy.state_dict()}
        tensors = {name: value for name, value in options.items() if isinstance(value, Tensor)}
        return fingerprint(tensors, *tensors.values())

    def samples(
        self, pairs: Pairs, done: Callable[[int], None], seen: Tensor | None = None
    ) -> Samples:
        """Reconstructions beside the truth, where data show it.

        ``done`` hears after each batch how many it had.
        """
        return self.scored(pairs, done, seen)[0]

    def scored(
        self,
        pairs: Pairs,
        done: Callable[[int], None] | None = None,
        seen: Tensor | None = None,
    ) -> tuple[Samples, Answer]:
        """As :meth:`samples`, and what it cost."""
        _, c, h, w = pairs.target.shape
        y, energy = pairs.y, self._energy((c, h, w), pairs.y, seen, pairs.ids)
        answer = self._answer(energy, y, done or _unheard)
        rows_, columns = energy.fidelity.operator.window((c, h, w))
        x, target = (images[..., rows_, columns] for images in (answer.x, pairs.target))
        before = y if y.shape == target.shape else self._started(energy, y)[..., rows_, columns]
        certificate, status = answer.certificate, answer.status
        return Samples(pairs.ids, before, x, target, certificate, status), answer

    def answer(
        self,
        y: Tensor,
        done: Callable[[int], None] | None = None,
        seen: Tensor | None = None,
        ids: Sequence[str] = (),
    ) -> Answer:
        """Reconstructions from data (k, c', h', w'), all of them ``seen`` (h', w') if None.

        ``ids`` are their names, where samples have an operator of their own: then k is 1. In the
        precision of the data, if that is more than the configuration asks for.

        Raises:
            InputError: data that do not fit.
        """
        shape, y = self._taken(y)
        energy = self._energy(shape, y, seen, ids)
        doubts = replace(self.fit, energy=energy).doubts(y[:1].to(self.device))
        if doubts is not None:
            say(f"warning: {ids[0]}: {doubts}" if ids else f"warning: {doubts}")
        return self._answer(energy, y, done or _unheard)

    def begin(self, y: Tensor, seen: Tensor | None = None) -> Tensor:
        """What one has without reconstruction: the data, or the start where they are no images."""
        shape, y = self._taken(y)
        return y if y.shape[1:] == shape else self._started(self._energy(shape, y, seen), y)

    def _taken(self, y: Tensor) -> tuple[Shape, Tensor]:
        """The shape of the images behind data, and these in the precision of the work."""
        shape = self.configuration.image_shape((y.shape[1], y.shape[2], y.shape[3]))
        return shape, y.to(torch.promote_types(y.dtype, self.configuration.dtype))

    def _started(self, energy: Variational, y: Tensor) -> Tensor:
        return energy.image(energy.start(y.to(self.device))).detach().cpu()

    def peak(self, samples: Iterable[Samples]) -> float | None:
        """What PSNR takes for white if the loss says so, or the largest modulus of complex images.

        None for that of all targets.
        """
        given = self.configuration.loss.shown_peak
        if given is not None or not self.configuration.data.complex:
            return given
        return max(float(s.target.square().sum(1).max()) for s in samples) ** 0.5 or 1.0

    @property
    def _probe(self) -> Shape:
        return (self.configuration.data.channels, *self.configuration.probe)

    def _energy(
        self, shape: Shape, y: Tensor, seen: Tensor | None, ids: Sequence[str] = ()
    ) -> Variational:
        """The same parameters, with an operator for that size, and what y shows of it."""
        if self.is_configuration:
            energy = self.configuration.energy(shape, seen)
            own = energy.fidelity
            own.operator = self.configuration.operator.shown_by(y, own.operator, ids)
            return energy.to(self.device, y.dtype)
        if seen is not None or self.configuration.operator.varying:
            return self._adapted(shape, y, seen, ids)
        kept = self._last.get((shape, y.dtype))
        if kept is None:
            kept = self._adapted(shape, y, seen, ids)
            self._last.clear()
            self._last[shape, y.dtype] = kept
        return kept

    def _adapted(
        self, shape: Shape, y: Tensor, seen: Tensor | None, ids: Sequence[str]
    ) -> Variational:
        energy = cast(Variational, copy.deepcopy(self.fit.energy))
        operator = self.configuration.assumed(shape, y, seen, ids)
        learned = list(energy.fidelity.operator.parameters())
        with torch.no_grad():
            for own, value in zip(operator.parameters(), learned, strict=True):
                own.copy_(value)
        if isinstance(energy.fidelity, Accompanied):
            energy.fidelity = energy.fidelity.fidelity
        energy.fidelity.operator = operator
        return energy.to(self.device, y.dtype)

    def _answer(self, energy: Variational, y: Tensor, done: Callable[[int], None]) -> Answer:
        """A few at a time; from their own start, or from those before where J is lower there."""
        _, _, h, w = energy.start(y[:1].to(self.device)).shape
        parts = torch.split(y, max(1, _PIXELS // (h * w)))
        found: list[Answer] = []
        last: Tensor | None = None
        for part in parts:
            began, cost = time.perf_counter(), Cost()
            data = part.to(self.device)
            objective = energy.at(data, cost=cost)
            tol = tolerance_of(energy, objective, data, self.accuracy)
            start = None if last is None else _lower(objective, last)
            solution = minimise(objective, accelerated(objective), start, tol=tol)
            cost.seconds, last = time.perf_counter() - began, solution.x
            found.append(Answer.of(solution, objective.image(solution.x), cost))
            done(len(part))
        return rows.join(found)


def _lower(objective: Objective, last: Tensor) -> Tensor:
    """The objective's own start, or ``last`` in rows where J is lower there."""
    start = objective.start()
    if last.shape != start.shape:
        return start
    return rows.choose(objective.value(last) < objective.value(start), last, start)


def _unheard(count: int) -> None:
    del count


def _check_untouched(copy: Path, fit: Fit) -> None:
    """The copy of the configuration, where it lies there, says what the fit was learned with."""
    if not copy.is_file():
        return
    there, known = (table_in(copy, text) for text in (text_in(copy), fit.source))
    if any(there.get(k) != known.get(k) for k in {*there, *known} - set(FREE)):
        what = f"'{copy}' is not what the fit beside it was learned with"
        advice = "undo what was changed in it, or learn anew"
        raise InputError(what, advice=advice)


def _check_same(energy: Variational, configuration: Configuration, source: Path) -> None:
    """The configuration builds the operator of the saved energy, and may do so for other sizes."""
    fidelity = energy.fidelity
    own = (fidelity.fidelity if isinstance(fidelity, Accompanied) else fidelity).operator
    tensors = [t for t in own.options().values() if isinstance(t, Tensor)]
    sizes = [t.shape[-2:] for t in tensors if t.ndim >= 2]
    seen = _seen(own) if configuration.data.measured is not None else None
    h, w = sizes[0] if sizes else configuration.probe if seen is None else seen.shape
    try:
        meant = configuration.assumed((configuration.data.channels, h, w), None, seen)
    except InputError:
        meant = None
    if meant is None or not _same(own, meant, configuration.operator.varying):
        what = f"the fit in '{source}' has another operator than its configuration builds"
        advice = "reconstruct with fit.reconstruct in Python, or learn anew"
        raise InputError(what, given=f"{type(own).__name__} and [operator]", advice=advice)


def _seen(own: Operator) -> Tensor | None:
    """Which data exist, where those that were measured said so; None where all do."""
    masks = (m.mask for m in own.modules() if isinstance(m, Mask | FourierMask | MultiCoil))
    return next(masks, None)


def _same(one: Operator, other: Operator, varying: Collection[str]) -> bool:
    """Whether two operators are of one kind with the same options, to rounding."""
    first, second = one.options(), other.options()
    if type(one) is not type(other) or first.keys() != second.keys():
        return False
    kept = (key for key in first if key not in varying)
    return all(_equal(first[key], second[key], varying) for key in kept)


def _equal(one: object, other: object, varying: Collection[str]) -> bool:
    if isinstance(one, Operator) and isinstance(other, Operator):
        return _same(one, other, varying)
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return bool(one == other)
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and bool(torch.allclose(one, other.to(one.device), rtol=1e-5, atol=1e-7))
