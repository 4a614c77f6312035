"""Use a fit, or the weights of a configuration, on images of any size, a few at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bilevel.cli.config import Configuration, plain, read, restore
from bilevel.cli.config.reading import table_in, text_in
from bilevel.cli.images import Batch
from bilevel.data import Pairs, simulate
from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.fingerprint import fingerprint
from bilevel.learn import Fit, Status, load
from bilevel.learn.reconstruction import tolerance_of
from bilevel.model import Cost, Objective, Variational
from bilevel.model.operators import Operator, Shape
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
    """Data of sharp images, with the configured operator and noise."""
    return simulate(
        batch.images.to(configuration.dtype),
        configuration.forward(batch.shape),
        configuration.noise.build(),
        configuration.data.seed,
        batch.ids,
    )


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
    _last: dict[Shape, Variational] = field(default_factory=dict[Shape, Variational], repr=False)

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

    def samples(self, pairs: Pairs, done: Callable[[int], None]) -> Samples:
        """Reconstructions beside the truth; ``done`` hears after each batch how many it had."""
        return self.scored(pairs, done)[0]

    def scored(
        self, pairs: Pairs, done: Callable[[int], None] | None = None
    ) -> tuple[Samples, Answer]:
        """As :meth:`samples`, and what it cost."""
        _, c, h, w = pairs.target.shape
        y, answer = pairs.y, self._answer(pairs.y, (c, h, w), done or _unheard)
        before = y
        if y.shape != pairs.target.shape:
            energy = self._energy((c, h, w))
            before = energy.image(energy.start(y.to(self.device))).detach().cpu()
        certificate, status = answer.certificate, answer.status
        return Samples(pairs.ids, before, answer.x, pairs.target, certificate, status), answer

    def answer(self, y: Tensor, done: Callable[[int], None] | None = None) -> Answer:
        """Reconstructions from data (k, c', h', w').

        Raises:
            InputError: data that do not fit.
        """
        given = (y.shape[1], y.shape[2], y.shape[3])
        shape = self.configuration.forward(given).image_shape(given)
        return self._answer(y.to(self.configuration.dtype), shape, done or _unheard)

    @property
    def _probe(self) -> Shape:
        return (self.configuration.data.channels, *self.configuration.probe)

    def _energy(self, shape: Shape) -> Variational:
        """The same parameters, with an operator for that size."""
        if self.is_configuration:
            return self.configuration.energy(shape).to(self.device)
        if shape not in self._last:
            energy = cast(Variational, copy.deepcopy(self.fit.energy))
            energy.fidelity.operator = self.configuration.forward(shape)
            self._last.clear()
            self._last[shape] = energy.to(self.device)
        return self._last[shape]

    def _answer(self, y: Tensor, shape: Shape, done: Callable[[int], None]) -> Answer:
        """A few at a time; from their own start, or from those before where J is lower there."""
        energy = self._energy(shape)
        parts = torch.split(y, max(1, _PIXELS // (shape[1] * shape[2])))
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


def _check_same(energy: Variational, configuration: Configuration, folder: Path) -> None:
    """The configuration builds the operator of the saved energy, and may do so for other sizes."""
    own = energy.fidelity.operator
    tensors = [t for t in own.options().values() if isinstance(t, Tensor)]
    sizes = [t.shape[-2:] for t in tensors if t.ndim >= 2]
    h, w = sizes[0] if sizes else configuration.probe
    try:
        meant = configuration.forward((configuration.data.channels, h, w))
    except InputError:
        meant = None
    if meant is None or not _same(own, meant):
        what = f"the fit in '{folder}' has another operator than its configuration builds"
        advice = "reconstruct with fit.reconstruct in Python, or learn anew"
        raise InputError(what, given=f"{type(own).__name__} and [operator]", advice=advice)


def _same(one: Operator, other: Operator) -> bool:
    """Whether two operators are of one kind with the same options, to rounding."""
    first, second = one.options(), other.options()
    if type(one) is not type(other) or first.keys() != second.keys():
        return False
    return all(_equal(first[key], second[key]) for key in first)


def _equal(one: object, other: object) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return bool(one == other)
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and bool(torch.allclose(one, other.to(one.device), rtol=1e-5, atol=1e-7))
