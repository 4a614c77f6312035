"""A whole configuration, checked for combinations that are impossible."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from bilevel.cli.config.noise import check_noise
from bilevel.cli.settings.base import Choice, Count, Positive, Seed, Settings, Unfit
from bilevel.cli.settings.differing import (
    AutomaticHypergradient,
    Box,
    BudgetSettings,
    DefaultSolver,
    Ridge,
)
from bilevel.cli.settings.kinds import (
    AccurateAlgorithm,
    AlgorithmSettings,
    FidelitySettings,
    HypergradientSettings,
    LossSettings,
    NoiseSettings,
    OperatorSettings,
    RegulariserSettings,
    SolverSettings,
    table,
)
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.learn import Algorithm
from bilevel.learn.algorithms import Automatic, ProjectedGradient, Scaled
from bilevel.model import Objective, Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.model.losses import SquaredError
from bilevel.model.operators import Operator, Shape

__all__ = ["EMBEDDED", "Configuration", "DataSettings", "OutputSettings"]

EMBEDDED = "embedded"


class DataSettings(Settings):
    """The sharp images that data are simulated from."""

    images: str | list[str] = Field(
        default=EMBEDDED,
        min_length=1,
        description='"embedded" for the pictures in the package, or folders',
    )
    grey: bool = Field(default=True, description="one channel; false for three")
    layout: Literal["colour"] | None = Field(
        default=None, description="of arrays of dimensions (3, h, w), which may also be stacks"
    )
    size: Annotated[int, Field(ge=1, le=2**14)] | None = Field(
        default=None, description="side of random crops [pixel]; whole images if none"
    )
    count: Count | None = Field(
        default=None, description="images (or crops) to learn from; all if none"
    )
    held_out: Annotated[int, Field(ge=0)] = Field(
        default=0, description="images (or crops) kept for the report, from other files"
    )
    seed: Seed = Field(default=0, description="of the choice of images, of crops and of noise")

    @property
    def channels(self) -> int:
        """Of every image."""
        return 1 if self.grey else 3


class OutputSettings(Settings):
    """The report."""

    title: str = Field(
        default="What was learned", description="headline of the report", min_length=1
    )


class Configuration(Settings):
    """Everything that a run depends on; a table that is left out has its defaults."""

    precision: Literal["float32", "float64"] = "float32"
    data: DataSettings = DataSettings()
    operator: Annotated[OperatorSettings, Choice("operators")]
    noise: Annotated[NoiseSettings, Choice("noises")]
    fidelity: Annotated[FidelitySettings, Choice("fidelities", "squared-l2")] = table(
        SquaredL2, FidelitySettings
    )()
    regulariser: Annotated[RegulariserSettings, Choice("regularisers")]
    ridge: Ridge | None = None
    box: Box | None = None
    loss: Annotated[LossSettings, Choice("losses", "squared-error")] = table(
        SquaredError, LossSettings
    )()
    solver: Annotated[SolverSettings, Choice("solvers", "default")] = DefaultSolver()
    hypergradient: Annotated[HypergradientSettings, Choice("hypergradients", "automatic")] = (
        AutomaticHypergradient()
    )
    algorithm: Annotated[AlgorithmSettings, Choice("algorithms", "automatic")] = table(
        Automatic, AccurateAlgorithm
    )()
    scales: dict[str, Positive] = Field(
        default={},
        description="how far a unit of the algorithm moves a parameter, by name or prefix",
    )
    budget: BudgetSettings = BudgetSettings(steps=0)
    output: OutputSettings = OutputSettings()

    @property
    def dtype(self) -> torch.dtype:
        """Of images and parameters."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def learner(self, settings: AlgorithmSettings) -> Algorithm[Any]:
        """An algorithm, in the units of [scales]."""
        algorithm = settings.build()
        return Scaled(algorithm, self.scales) if self.scales else algorithm

    def forward(self, shape: Shape) -> Operator:
        """The operator for images (c, h, w)."""
        return self.operator.build(shape).to(self.dtype)

    def energy(self, shape: Shape) -> Variational:
        """The energy for images (c, h, w), at its first parameters.

        Raises:
            Unfit: images of that shape are impossible.
        """
        with _blaming("operator", self.operator.decisive):
            operator = self.operator.build(shape)
            operator.data_shape(shape)
        with _blaming("regulariser"):
            regulariser = self.regulariser.build(shape)
            regulariser.check(shape)
        with _blaming("fidelity"):
            fidelity = self.fidelity.build(operator)
        if self.ridge is not None:
            with _blaming("ridge"):
                regulariser = regulariser + self.ridge.build()
        if self.box is not None:
            regulariser = regulariser + self.box.build()
        return Variational(fidelity, regulariser).to(self.dtype)

    @property
    def as_it_is(self) -> bool:
        """Whether nothing is to be learned: no parameter is, or no step is made."""
        return self.budget.steps == 0 or not learnable(
            self.energy((self.data.channels, *self.probe))
        )

    @property
    def _limited(self) -> bool:
        return "budget" in self.model_fields_set

    @property
    def probe(self) -> tuple[int, int]:
        """Size (h, w) of an image on which to try things: small, but one that everything takes."""
        if (size := self.operator.size_taken) is not None:
            return size
        side, multiple = (
            max(32, self.operator.smallest, self.regulariser.smallest),
            self.operator.multiple,
        )
        side = math.ceil(side / multiple) * multiple
        return side, side

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        self._check_learning()
        check_noise(self.operator, self.noise, self.fidelity)
        with _blaming("operator", self.operator.decisive):
            probe = self.probe
        size = probe if self.data.size is None else (self.data.size, self.data.size)
        if learnable(self.energy((self.data.channels, *size))) and not self._limited:
            advice = "add it, e.g. with seconds = 60, or steps = 0 to learn nothing"
            raise Unfit("budget", "the table [budget] is missing", advice=advice)
        self._check_solver()
        return self

    def _check_solver(self) -> None:
        """On an empty image; a solver that was not asked for by name is not to blame."""
        shape = (self.data.channels, *self.probe)
        y = torch.zeros(1, *self.forward(shape).data_shape(shape), dtype=self.dtype)
        objective = self.energy(shape).at(y)
        with _blaming("regulariser" if self.solver.takes is Objective else "solver", "name"):
            self.solver.check(objective)

    def _check_learning(self) -> None:
        count, algorithm = self.data.count, self.algorithm.build()
        batch = algorithm.batch_size if isinstance(algorithm, ProjectedGradient) else None
        if batch and count and batch > count:
            what = f"a batch must not exceed the {count} images of data.count"
            raise Unfit("algorithm.batch_size", what, given=batch)


@contextmanager
def _blaming(table: str, key: str | None = None) -> Generator[None]:
    """Errors inside are those of ``key``, or of the one that they name themselves."""
    try:
        yield
    except InputError as error:
        named = error.key if isinstance(error, Unfit) else key
        raise Unfit(table if named is None else f"{table}.{named}", str(error)) from error
