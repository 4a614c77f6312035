"""Tables of parts where these differ from the library's: the rest is read off its classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from pydantic import BeforeValidator, Field, model_validator

from bilevel import data, differentiate
from bilevel.cli.settings.base import Count, Positive, Seed, Settings, Side, Unfit, ratio
from bilevel.cli.settings.kinds import (
    HypergradientSettings,
    NoiseSettings,
    RegulariserSettings,
    SolverSettings,
    Table,
    first_weight,
    table,
)
from bilevel.cli.settings.numbers import Numbers
from bilevel.cli.settings.rules import RuleSettings
from bilevel.differentiate import Hypergradient
from bilevel.ground.randomness import generator
from bilevel.learn import Budget
from bilevel.model import Objective, regularisers
from bilevel.model.operators import Shape
from bilevel.model.regularisers import ImageTerm
from bilevel.solve import Solver, solvers

__all__ = [
    "AutomaticHypergradient",
    "AutomaticSolver",
    "Banks",
    "Box",
    "BudgetSettings",
    "CameraSettings",
    "CameraTable",
    "Cascade",
    "CoupledSettings",
    "DefaultSolver",
    "Experts",
    "GaussianSettings",
    "MapSettings",
    "PoissonSettings",
    "Ridge",
    "WhitenessSettings",
    "coupled_in",
]


ESTIMATE = "estimate"
_COMPLEX = 2
"""Channels of a complex image."""


def _levels(value: object) -> object:
    """One level, two of them, or the word; a level may be a quotient."""
    if isinstance(value, (list, tuple)):
        return tuple(ratio(one) for one in cast(Sequence[object], value))
    return value if value == ESTIMATE else ratio(value)


class GaussianSettings(NoiseSettings):
    """A level may be written as a quotient, be drawn for every image, or be estimated."""

    rules = ("sure", "predicted-risk")
    sigma: Annotated[
        float | Annotated[tuple[float, float], Field(strict=False)] | Literal["estimate"],
        BeforeValidator(_levels),
    ] = Field(
        description='standard deviation [grey value]; also "25/255", [0.05, 0.15] for a level '
        'drawn for every image, "estimate" for what measured data show'
    )

    @property
    def estimated(self) -> bool:
        """Whether the level is what the data show."""
        return self.sigma == ESTIMATE

    def trial(self) -> None:
        """Unless the level is yet unknown."""
        if not self.estimated:
            super().trial()


class PoissonSettings(NoiseSettings):
    """Counts have a rule of their own."""

    rules = ("pure", "pure")


class CameraSettings(Table):
    """What the numbers of a camera mean: light, with photon and read noise."""

    set_apart = ("unit",)
    unit: Positive | None = Field(
        default=None,
        description="numbers above the offset that are grey value 1; that of the file if none, "
        "and 1 for simulated data",
    )

    def build(self, unit: float = 1.0) -> data.Camera:
        """The camera, with that unit unless it has one."""
        return self.make(unit=unit if self.unit is None else self.unit)


if TYPE_CHECKING:
    CameraTable = CameraSettings
else:
    CameraTable = table(data.Camera, CameraSettings)


class CoupledSettings(RegulariserSettings):
    """Channels that are penalised together where the image is complex."""

    coupled: bool | None = Field(
        default=None,
        description="penalise the differences of all channels together; those of complex images "
        "alone if none",
    )

    def build(self, shape: Shape) -> ImageTerm:
        """Coupled as chosen."""
        return self.make(coupled=coupled_in(self.coupled, shape))

    def trial(self) -> None:
        """Of one channel."""
        self.make(coupled=bool(self.coupled))


class MapSettings(CoupledSettings):
    """What smoothed and exact total variation have in common: their weight may be a map."""

    given_elsewhere = ("operator", "least_smoothing")
    map: bool = Field(default=False, description="one weight a pixel instead of a single one")

    @model_validator(mode="after")
    def _check(self) -> Any:
        values = self.model_dump()
        one = not isinstance(values["weight"], list | str)
        if (key := self.varying) and one and "weight" not in values["learn"]:
            advice = f'leave out {key}, or set learn = ["weight"]'
            raise Unfit(key, "a map of weights that is not learned is no map", advice=advice)
        if self.map and key == "grid":
            what = "a map is one weight a pixel, a grid of weights is coarser"
            raise Unfit("grid", what, advice="leave out map or grid")
        return self

    @property
    def varying(self) -> str | None:
        """The key that makes weights differ from place to place; None without."""
        gridded = self.model_dump().get("grid") is not None
        return "grid" if gridded else "map" if self.map else None

    def build(self, shape: Shape) -> ImageTerm:
        """One weight, or a map of the size of the image, left to the data unless given."""
        isotropic: bool = self.model_dump()["isotropic"]
        coupled = coupled_in(self.coupled, shape) and (isotropic or bool(self.coupled))
        one: ImageTerm = self.make(coupled=coupled)
        weight = one.get_parameter("log_weight").detach().exp()
        if not self.map or weight.ndim:
            return one
        part: ImageTerm = self.make(coupled=coupled, weight=weight.expand(shape[1:]))
        part.left |= {name: unit for name, unit in one.left.items() if name == "log_weight"}
        return part


def coupled_in(chosen: bool | None, shape: Shape) -> bool:
    """As chosen, otherwise for the two channels of complex images."""
    return shape[0] == _COMPLEX if chosen is None else chosen


class Experts(CoupledSettings):
    """Filters start as a discrete cosine transform."""

    given_elsewhere = ("operator", "filters")
    size: Annotated[int, Field(ge=2, le=64)] = Field(
        default=5, description="side of the filters [pixel]"
    )
    count: Count | None = Field(
        default=None, description="filters, lowest frequencies first; all if none"
    )
    coupled: bool | None = Field(
        default=None,
        description="penalise the responses of all channels together; those of complex images "
        "alone if none",
    )

    def build(self, shape: Shape) -> ImageTerm:
        """Filters of one channel."""
        coupled = coupled_in(self.coupled, shape)
        if shape[0] != 1 and not coupled:
            advice = "set coupled = true, or grey = true in [data]"
            raise Unfit("coupled", "filters have one channel", advice=advice)
        bank = regularisers.dct_filters(self.size)
        if self.count is not None and self.count > len(bank):
            most = f"{self.size}x{self.size} pixels give at most {len(bank)} filters"
            raise Unfit("count", most, given=self.count)
        frequency = torch.arange(1, self.size**2)
        order = (frequency // self.size + frequency % self.size).argsort(stable=True)
        return self.make(filters=bank[order[: self.count]], coupled=coupled)

    def trial(self) -> None:
        """With filters of one channel."""
        self.build((1, self.size, self.size))

    @property
    def smallest(self) -> int:
        """The side of the filters."""
        return self.size


class Banks(RegulariserSettings):
    """Filters start at random, with a proved norm of 1."""

    given_elsewhere = ("filters", "norm")
    channels: Annotated[tuple[Side, ...], Field(strict=False, min_length=1)] = Field(
        default=(4, 8, 32), description="of each layer of the cascade"
    )
    size: Annotated[int, Field(ge=1, le=64)] = Field(
        default=5, description="odd side of the filters [pixel]"
    )
    seed: Seed = Field(default=0, description="of the first filters")

    def build(self, shape: Shape) -> ImageTerm:
        """With filters for images of so many channels."""
        return self.make(filters=self._filters(shape[0], self.channels))

    def trial(self) -> None:
        """With the last layer alone."""
        if self.size % 2 == 0:
            raise Unfit("size", "filters of a cascade have an odd side", given=self.size)
        self.make(filters=self._filters(1, self.channels[-1:]))

    def _filters(self, channels: int, layers: Sequence[int]) -> list[torch.Tensor]:
        rng = generator(self.seed, "ridge")
        return [
            torch.randn(m, c, self.size, self.size, generator=rng)
            for c, m in zip((channels, *layers), layers, strict=False)
        ]


class Cascade(Banks):
    """With a sharpness and first values of its own, left to the data unless given."""

    weight: float | None = Field(
        default=None, description="factor; 0.5 at the data's contrast if none"
    )
    sharpness: float = Field(default=50.0, description="how sharply the profile turns at 0")
    scaling: Annotated[Any, Numbers()] = Field(
        default=None,
        description="first scale of every channel, or one each; 5 over the contrast if none",
    )

    def make(self, **given: object) -> Any:
        """With those values."""
        usual = {"weight": 0.5, "scaling": 5.0}
        left = {key: value for key, value in usual.items() if getattr(self, key) is None}
        part = super().make(**{**left, **given})
        if self.weight is None:
            part.leave("log_weight", fidelity=1, grey=-2)
        if self.scaling is None:
            part.leave("log_scaling", grey=-1)
        return part


class Box(Settings):
    """lower <= x <= upper for every pixel; one of them is enough."""

    lower: float | None = Field(default=None, description="least grey value")
    upper: float | None = Field(default=None, description="greatest grey value")

    @model_validator(mode="after")
    def _check(self) -> Box:
        if self.lower is None and self.upper is None:
            raise Unfit("lower", "a box needs a bound", advice="add e.g. lower = 0.0")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise Unfit("upper", f"must exceed lower = {self.lower}", given=self.upper)
        return self

    def above(self, floor: float) -> Box:
        """What of it is not below that."""
        lower = floor if self.lower is None else max(self.lower, floor)
        return Box(lower=lower, upper=self.upper)

    def build(self) -> ImageTerm:
        """The constraint."""
        return regularisers.Box(self.lower, self.upper)


class Ridge(Settings):
    """weight/2 ‖x‖² beside the regulariser: makes the energy strongly convex.

    Distances to the exact minimiser can be proved only then; where the operator alone does not
    see to it (any but the identity and mild blurs), a small ridge does.
    """

    weight: Positive | None = Field(
        default=None, description="factor; 0.001 at the data's contrast if none"
    )
    learn: bool = Field(default=False, description="learn the weight too")

    def first_weight(self, contrast: float, degree: int) -> float:
        """Beside a fidelity of that degree, at that contrast."""
        return first_weight(self.build(), contrast, degree)

    def build(self) -> regularisers.Tikhonov:
        """The squared norm."""
        return regularisers.Tikhonov(self.weight, learn=("weight",) if self.learn else ())


class DefaultSolver(SolverSettings):
    """Nesterov's method for smooth energies, often quickest to learn with; others FISTA or PDHG."""

    @property
    def takes(self) -> type[Objective]:
        """All."""
        return Objective

    def build(self, objective: Objective) -> Solver[Any]:
        """What :func:`bilevel.solve.solvers.accelerated` chooses."""
        return solvers.accelerated(objective)


class AutomaticSolver(DefaultSolver):
    """The solver that fits: L-BFGS for smooth energies, FISTA or PDHG for others."""

    def build(self, objective: Objective) -> Solver[Any]:
        """What :func:`bilevel.solve.solvers.automatic` chooses."""
        return solvers.automatic(objective).solver


class AutomaticHypergradient(HypergradientSettings):
    """The one that fits: implicit, and piggyback for exact total variation and the like."""

    def build(self, objective: Objective) -> Hypergradient:
        """What :func:`bilevel.differentiate.automatic` chooses."""
        return differentiate.automatic(objective)


class WhitenessSettings(RuleSettings):
    """A whole image is written as 0, as TOML has no None."""

    patch: Annotated[int, Field(ge=0)] = Field(
        default=16, description="side of the squares looked at, in pixels; 0: the whole image"
    )

    def make(self, **given: object) -> Any:
        """With None for 0."""
        return super().make(**{"patch": self.patch or None, **given})


class BudgetSettings(Settings):
    """What learning may cost; the first limit that is reached ends it."""

    seconds: Positive | None = Field(default=None, description="of the learning itself")
    steps: Annotated[int, Field(ge=0, le=10**9)] | None = Field(
        default=None, description="outer steps; 0 to learn nothing"
    )
    gradient_evaluations: Count | None = Field(default=None, description="of one image's energy")

    @model_validator(mode="after")
    def _check(self) -> BudgetSettings:
        if not self.model_dump(exclude_none=True):
            raise Unfit("seconds", "a budget needs a limit", advice="add e.g. seconds = 60")
        return self

    def build(self) -> Budget:
        """The budget itself; what is not given is unlimited."""
        limits = (self.seconds, self.steps, self.gradient_evaluations)
        return Budget(*(math.inf if limit is None else limit for limit in limits))
