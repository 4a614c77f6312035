"""What the tables of each kind have in common, and how a class becomes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast, get_args

from pydantic import Field, create_model, model_validator
from torch import Tensor

from bilevel import data
from bilevel.cli.settings.base import Choice, Positive, Settings, Unfit
from bilevel.cli.settings.numbers import numbers_of, tensor_of
from bilevel.cli.settings.reflect import NONE, options_of, parameters_of, plain_words
from bilevel.differentiate import Hypergradient
from bilevel.ground.contents import summary
from bilevel.ground.errors import InputError
from bilevel.learn import Accuracy, Algorithm, schedules
from bilevel.learn.penalties import Penalty
from bilevel.model import CompositeObjective, Objective, SaddleObjective, SmoothObjective
from bilevel.model.fidelities import DataTerm
from bilevel.model.kinds import is_kind
from bilevel.model.losses import Loss
from bilevel.model.operators import Identity, Operator, Shape
from bilevel.model.part import Units
from bilevel.model.regularisers import ImageTerm
from bilevel.solve import Solver

__all__ = [
    "AccurateAlgorithm",
    "AlgorithmSettings",
    "FidelitySettings",
    "HypergradientSettings",
    "LossSettings",
    "NetworkSettings",
    "NoiseSettings",
    "PenaltySettings",
    "RegulariserSettings",
    "ScheduleSettings",
    "SolverSettings",
    "Table",
    "first_weight",
    "table",
]

T = TypeVar("T", bound="Table")


class Table(Settings):
    """A table that stands for an object of the class ``stands_for``, with some of its options.

    Ranges and combinations are checked where they are defined: the object is made on reading.
    """

    stands_for: ClassVar[Any] = None
    option_names: ClassVar[tuple[str, ...]] = ()
    given_elsewhere: ClassVar[tuple[str, ...]] = ()
    """Options of the class that the rest of the configuration gives."""
    fixed_options: ClassVar[Mapping[str, object]] = {}
    """Options of the class that tell two tables of one class apart."""
    nullable: ClassVar[tuple[str, ...]] = ()
    """Options of the class that may be None though their default is something else."""
    set_apart: ClassVar[tuple[str, ...]] = ()
    """Keys that are no options of the class, even where they bear the same name."""

    in_words: ClassVar[str | None] = None
    """What the catalogue says of it; the first line of the docstring of the class if None."""

    def make(self, **given: object) -> Any:
        """The object itself."""
        chosen = {key: getattr(self, key) for key in self.option_names}
        chosen |= {key: None for key in self.nullable if chosen[key] == NONE}
        built = {k: v.make() if isinstance(v, Table) else v for k, v in chosen.items()}
        return self.stands_for(**{**self.fixed_options, **built, **self.arrays(), **given})

    def arrays(self) -> dict[str, Tensor]:
        """The options for which a list or a file is written."""
        named = (key for key in numbers_of(type(self)) if key in self.option_names)
        found = {key: tensor_of(key, getattr(self, key)) for key in named}
        return {key: tensor for key, tensor in found.items() if tensor is not None}

    def trial(self) -> None:
        """Make the object, with something harmless for what is given later.

        Raises:
            InputError: options that do not fit.
        """
        self.make()

    @model_validator(mode="after")
    def _made(self) -> Any:
        if self.stands_for is None:
            return self
        try:
            self.trial()
        except InputError as error:
            raise Unfit(self._blamed(str(error)), str(error)) from None
        return self

    def _blamed(self, message: str) -> str:
        """The key without which the object can be made, or else one that the message names."""
        fields, chosen = type(self).model_fields, sorted(self.model_fields_set)
        for key in chosen:
            if not fields[key].is_required():
                try:
                    self.model_copy(update={key: fields[key].default}).trial()
                except InputError:
                    continue
                return key
        named = [k for k in chosen if re.search(rf"\b{k.replace('_', '[_ ]')}\b", message)]
        needed = [key for key in chosen if fields[key].is_required()]
        return next(iter((*named, *needed, *chosen)), "name")


class NoiseSettings(Table):
    """A noise model."""

    rules: ClassVar[tuple[str, str]] = ("gcv", "gcv")
    """What chooses a weight unless another rule is asked for: in denoising, and otherwise."""

    def build(self) -> data.Noise:
        """The noise model itself."""
        return self.make()

    def in_unit(self, unit: float) -> data.Noise:
        """The noise of data that are divided by ``unit``."""
        return self.build().in_unit(unit)

    @property
    def fidelity(self) -> Mapping[str, object]:
        """The table [fidelity] that fits such noise."""
        noise = self.build()
        if isinstance(noise, data.PoissonNoise):
            return {"name": "kullback-leibler", "background": noise.background}
        return {"name": "squared-l2"}


class FidelitySettings(Table):
    """How well an image explains the data."""

    given_elsewhere = ("operator",)

    @property
    def degree(self) -> int:
        """Ψ(c A x; c y) = c^degree Ψ(A x; y)."""
        return self.stands_for.degree

    def build(self, operator: Operator, unit: float = 1.0) -> DataTerm:
        """The fidelity with that operator, of data that were divided by ``unit``."""
        del unit
        return self.make(operator=operator)

    @property
    def data_taken(self) -> tuple[int, ...] | None:
        """The one shape of data, (h', w') or (c', h', w'), that it takes; None if it takes many."""
        return None

    def fits(self, data_shape: Shape) -> None:
        """Raise Unfit for data of a shape that it does not take."""

    def trial(self) -> None:
        """With the identity."""
        self.make(operator=Identity())


class RegulariserSettings(Table):
    """What is known of images beforehand."""

    given_elsewhere = ("operator",)

    def build(self, shape: Shape) -> ImageTerm:
        """The regulariser for images (c, h, w)."""
        del shape
        return self.make()

    def first_weight(self, contrast: float, degree: int) -> float:
        """Its weight beside a fidelity of that degree, at that contrast."""
        return first_weight(self.build((1, self.smallest, self.smallest)), contrast, degree)

    @property
    def smallest(self) -> int:
        """Side of the smallest image that it takes [pixel]."""
        return 1

    @property
    def size_taken(self) -> tuple[int, int] | None:
        """The one size (h, w) of images that a map fits [pixel]; None without maps."""
        gridded = getattr(self, "grid", None) is not None
        if gridded or not getattr(self.stands_for, "maps", None):
            return None
        sizes = (value.shape for value in self.arrays().values() if value.ndim == 2)
        return next(((h, w) for h, w in sizes), None)


class NetworkSettings(RegulariserSettings):
    """A network, for images of so many channels as the data ask for."""

    given_elsewhere = ("operator", "image_channels")

    def build(self, shape: Shape) -> ImageTerm:
        """For images (c, h, w)."""
        return self.make(image_channels=shape[0])


def first_weight(part: ImageTerm, contrast: float, degree: int) -> float:
    """The largest weight of a term, what was left to the data taken at that contrast."""
    part.take_units(Units(contrast, contrast**degree))
    return float(part.get_parameter("log_weight").detach().double().exp().max())


class LossSettings(Table):
    """The distance of a reconstruction to the truth, or a sum of several."""

    set_apart = ("factor", "plus")
    factor: Positive = Field(default=1.0, description="what the loss is multiplied by")
    plus: Annotated[LossSettings | None, Choice("losses")] = Field(
        default=None, description="another loss that is added, a table [loss.plus]"
    )

    @property
    def shown_peak(self) -> float | None:
        """What PSNR takes for white, if the table gives it [grey value]."""
        given: float | None = self.model_dump().get("peak")
        return self.plus.shown_peak if given is None and self.plus is not None else given

    def build(self) -> Loss:
        """The loss itself, times its factor, and what is added."""
        own: Loss = self.make()
        own = own if self.factor == 1 else self.factor * own
        return own if self.plus is None else own + self.plus.build()


class PenaltySettings(Table):
    """What the parameters themselves cost, added to the mean loss; or a sum of several."""

    set_apart = ("plus",)
    given_elsewhere = ("first",)
    plus: Annotated[PenaltySettings | None, Choice("penalties")] = Field(
        default=None, description="another penalty that is added, a table [penalty.plus]"
    )

    def build(self) -> Penalty:
        """The penalty itself, and what is added."""
        own: Penalty = self.make()
        return own if self.plus is None else own + self.plus.build()


class ScheduleSettings(Table):
    """The accuracy of the lower level over the outer steps."""

    def build(self) -> schedules.Schedule:
        """The schedule itself."""
        return self.make()


class AlgorithmSettings(Table):
    """An algorithm of the upper level."""

    def build(self) -> Algorithm[Any]:
        """The algorithm itself."""
        return self.make()


class AccurateAlgorithm(AlgorithmSettings):
    """One with a first accuracy and a floor."""

    given_elsewhere = ("accuracy",)
    set_apart = ("first_accuracy", "floor")
    first_accuracy: Positive | None = Field(
        default=None, description="ε_0, rms [grey value]; 2 % of the first distance if none"
    )
    floor: Positive | None = Field(
        default=None,
        description="smallest accuracy asked for [grey value]; 1e-7 of the contrast if none",
    )

    def make(self, **given: object) -> Any:
        """With both as one policy."""
        return super().make(accuracy=Accuracy(self.first_accuracy, self.floor), **given)


class HypergradientSettings(Table):
    """How the solution of the lower level is differentiated."""

    def build(self, objective: Objective) -> Hypergradient:
        """The hypergradient for that objective."""
        del objective
        return self.make()


KINDS: dict[type[Objective], str] = {
    SmoothObjective: "smooth energies alone",
    CompositeObjective: "smooth terms plus a box or one absolute value of the pixels",
    SaddleObjective: "exact total variation, L1 data of an operator, several absolute values",
}


class SolverSettings(Table):
    """A solver of the lower level."""

    set_apart = ("max_steps", "chunk")
    max_steps: Annotated[int, Field(ge=1)] = Field(
        default=20_000, description="limit of each solve"
    )
    chunk: Annotated[int, Field(ge=1)] = Field(
        default=64, description="images solved at once; memory grows with it"
    )

    @property
    def takes(self) -> type[Objective]:
        """The objectives that the solver is for."""
        return self.stands_for.takes

    def build(self, objective: Objective) -> Solver[Any]:
        """The solver itself."""
        del objective
        return self.make()

    def check(self, objective: Objective) -> None:
        """Take one step.

        Raises:
            InputError: the solver is for other objectives.
        """
        if not is_kind(objective, self.takes):
            advice = 'leave [solver] out or take name = "automatic"'
            kind = KINDS.get(self.takes, self.takes.__name__)
            raise Unfit("name", f"the solver is for {kind}", advice=advice)
        solver = self.build(objective)
        solver.step(objective, solver.init(objective, objective.start()))


@cache
def table(part: type, base: type[T]) -> type[T]:
    """The table for the class ``part``: its options, their types, defaults and meanings.

    What ``base`` declares itself stays as it is.

    Raises:
        InputError: an option that no configuration can give.

    Example:
        >>> list(table(schedules.Geometric, ScheduleSettings).model_fields)
        ['factor']
    """
    inner = {
        schedules.Schedule: Annotated[ScheduleSettings, Choice("schedules")],
    }
    own = base.model_fields
    _check_names(part, base)
    options = options_of(part, (*base.given_elsewhere, *base.fixed_options, *own), inner)
    fields = {
        name: (option.type, Field(default=_default(option.default), description=option.meaning))
        if not option.required
        else (option.type, Field(description=option.meaning))
        for name, option in options.items()
    }
    made = create_model(part.__name__, __base__=base, **cast(Any, fields))
    made.stands_for = part
    made.option_names = tuple(
        name
        for name in parameters_of(part)
        if name in made.model_fields and name not in base.set_apart
    )
    made.nullable = tuple(
        name for name, option in options.items() if Literal["none"] in get_args(option.type)
    )
    made.__doc__ = base.in_words or plain_words(summary(part)) + "."
    return made


def _check_names(part: type, base: type[Table]) -> None:
    """Raise InputError for an option whose name a table needs for itself."""
    for name in set(parameters_of(part)) - set(base.model_fields) - set(base.given_elsewhere):
        if name in dir(base):
            what = f"an option of {part.__name__} is called '{name}', which a table has already"
            raise InputError(what, advice="give it another name")


def _default(value: object) -> object:
    """A default as a table holds it."""
    if isinstance(value, schedules.Schedule):
        return table(type(value), ScheduleSettings).model_validate(vars(value))
    return value
