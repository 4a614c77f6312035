"""A whole configuration, checked for combinations that are impossible."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel import data
from bilevel.cli.config.data import EMBEDDED, DataSettings
from bilevel.cli.config.noise import check_noise
from bilevel.cli.settings.base import Choice, Positive, Settings, Unfit
from bilevel.cli.settings.differing import (
    AutomaticHypergradient,
    Box,
    BudgetSettings,
    CameraTable,
    DefaultSolver,
    GaussianSettings,
    Ridge,
)
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.kinds import (
    AccurateAlgorithm,
    AlgorithmSettings,
    FidelitySettings,
    HypergradientSettings,
    LossSettings,
    NoiseSettings,
    PenaltySettings,
    RegulariserSettings,
    SolverSettings,
    table,
)
from bilevel.cli.settings.rules import CriterionSettings
from bilevel.cli.settings.weighted import SquaredL2Settings
from bilevel.data import PoissonGaussianNoise
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.learn import Algorithm
from bilevel.learn.algorithms import Automatic, ProjectedGradient, Scaled
from bilevel.learn.penalties import Penalty
from bilevel.model import Objective, Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.model.losses import SquaredError
from bilevel.model.operators import Operator, Shape

__all__ = ["EMBEDDED", "Configuration", "DataSettings", "OutputSettings", "blaming"]


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
    camera: CameraTable | None = None
    noise: Annotated[NoiseSettings | None, Choice("noises")] = None
    fidelity: Annotated[FidelitySettings, Choice("fidelities", "squared-l2")] = table(
        SquaredL2, SquaredL2Settings
    )()
    regulariser: Annotated[RegulariserSettings, Choice("regularisers")]
    ridge: Ridge | None = None
    box: Box | None = None
    loss: Annotated[LossSettings, Choice("losses", "squared-error")] = table(
        SquaredError, LossSettings
    )()
    penalty: Annotated[PenaltySettings | None, Choice("penalties")] = None
    criterion: Annotated[CriterionSettings | None, Choice("criteria")] = None
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

    def noise_in(self, data_shape: Shape) -> data.Noise | None:
        """The noise of data (c', h', w'), in the unit of the operator; None if it is not known."""
        return None if self.noise is None else self.noise.in_unit(self.operator.unit(data_shape))

    def drawn(self, data_shape: Shape) -> data.Noise:
        """What data are simulated with.

        Raises:
            InputError: data were measured, and no noise is known.
        """
        noise = self.noise_in(data_shape)
        if noise is None:
            what = "the configuration has no [noise] to simulate data with: they were measured"
            raise InputError(what, advice="give measured data")
        return noise

    def forward(self, shape: Shape) -> Operator:
        """The operator that data of images (c, h, w) are simulated with."""
        return self.operator.build(shape).to(self.dtype)

    def assumed(
        self,
        shape: Shape,
        y: Tensor | None = None,
        seen: Tensor | None = None,
        ids: Sequence[str] = (),
    ) -> Operator:
        """The one that reconstructions begin with, of whose data those ``seen`` (h', w') exist.

        ``y`` are data that may show more of it, ``ids`` their names.
        """
        own = self.operator
        operator = own.assumed(shape) if seen is None else own.seeing(shape, seen)
        operator = operator.to(self.dtype)
        return operator if y is None else own.shown_by(y, operator, ids)

    def image_shape(self, data_shape: Shape) -> Shape:
        """Of the images behind data (c', h', w').

        Raises:
            InputError: data that do not fit.
        """
        like = (self.data.channels, *data_shape[1:])
        return self.forward(like).image_shape(data_shape)

    def energy(self, shape: Shape, seen: Tensor | None = None) -> Variational:
        """The energy for images (c, h, w), at its first parameters.

        Raises:
            Unfit: images of that shape are impossible.
        """
        with blaming("operator", self.operator.decisive):
            operator = self.assumed(shape, seen=seen)
            operator.data_shape(shape)
        with blaming("regulariser"):
            regulariser = self.regulariser.build(shape)
            regulariser.check(shape)
        with blaming("fidelity"):
            fidelity = self.operator.fidelity(self.fidelity, operator, shape)
        if self.ridge is not None:
            with blaming("ridge"):
                regulariser = regulariser + self.ridge.build()
        if self.box is not None:
            regulariser = regulariser + self.box.build()
        return Variational(fidelity, regulariser).to(self.dtype)

    @property
    def priced(self) -> Penalty | None:
        """What the parameters themselves cost."""
        return None if self.penalty is None else self.penalty.build()

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
        side = max(32, self.operator.smallest, self.regulariser.smallest)
        h, w = (math.ceil(side / multiple) * multiple for multiple in self.operator.multiples)
        taken = self.fidelity.data_taken
        if taken is None:
            return h, w
        shape = (self.data.channels, h, w)
        channels = self.forward(shape).data_shape(shape)[0]
        _, h, w = self.image_shape((channels, taken[-2], taken[-1]))
        return h, w

    @model_validator(mode="before")
    @classmethod
    def _of_camera(cls, values: Any) -> Any:
        """The noise is that of the camera, where there is one."""
        camera, noise = (values.get(name) for name in ("camera", "noise"))
        if not isinstance(camera, CameraTable):
            return values
        own = table(PoissonGaussianNoise, NoiseSettings)(**vars(camera.build().noise))
        if noise is not None and noise != own:
            advice = "delete the table"
            raise Unfit("noise.name", "the noise is that of [camera]", advice=advice)
        return {**values, "noise": own}

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        self._check_data()
        self._check_learning()
        self._check_complex()
        if isinstance(self.noise, GaussianSettings) and self.noise.estimated:
            what = "a level is estimated from measured data, and these are simulated"
            raise Unfit("noise.sigma", what, advice='give it, e.g. "25/255" or [0.05, 0.15]')
        check_noise(self.operator, self.noise, self.fidelity)
        with blaming("operator", self.operator.decisive):
            probe = self.probe
        size = probe if self.data.size is None else (self.data.size, self.data.size)
        learned = learnable(self.energy((self.data.channels, *size)))
        if learned and self.penalty is not None:
            with blaming("penalty", "name"):
                self.penalty.build().fitted(learned)
        if self.data.size is not None:
            with blaming("loss", "name"):
                shape = (self.data.channels, *size)
                self.loss.build().check(shape, shape)
        if learned and not self._limited:
            advice = "add it, e.g. with seconds = 60, or steps = 0 to learn nothing"
            raise Unfit("budget", "the table [budget] is missing", advice=advice)
        if self.operator.binarises and set(learned) == {"fidelity.sampling"}:
            what = "there is nothing to learn anew with the binary mask"
            advice = 'name what is to be learned, e.g. learn = ["weight"], or set binarise = false'
            raise Unfit("regulariser.learn", what, advice=advice)
        self._check_solver()
        return self

    def _check_data(self) -> None:
        """What is simulated needs noise; measurements need something to be compared with."""
        if self.data.measured is None and "noise" not in self.model_fields_set:
            advice = 'add [noise], e.g. with name = "gaussian", or name measured data in [data]'
            raise Unfit("noise", "the table [noise] is missing", advice=advice)
        if self.data.measured is not None and self.data.target is None and self.criterion is None:
            advice = 'name the images that the data are of, or add [criterion], with name = "sure"'
            raise Unfit("data.target", "measured data alone need a criterion", advice=advice)
        if self.operator.of_samples and self.data.measured is None:
            what = "operators of samples go with measured data"
            raise Unfit("operator.sensitivities", what, advice="name measured in [data]")
        if self.criterion is not None:
            if self.operator.of_samples:
                what = "a criterion asks for one operator for all samples"
                advice = "name one file of sensitivities, or leave out [criterion]"
                raise Unfit("operator.sensitivities", what, advice=advice)
            if (key := self.operator.left_open) is not None:
                what = "a criterion of the data cannot learn the operator"
                raise Unfit(f"operator.{key}", what, advice="leave out [criterion], and give pairs")
            with blaming("criterion", "name"):
                self.criterion.build(None if self.noise is None else self.noise.build())
            if not isinstance(self.loss.build(), SquaredError):
                advice = "delete one of the tables"
                raise Unfit("loss.name", "the criterion takes the place of the loss", advice=advice)

    def _check_solver(self) -> None:
        """On an empty image; a solver that was not asked for by name is not to blame."""
        shape = (self.data.channels, *self.probe)
        y = torch.zeros(1, *self.forward(shape).data_shape(shape), dtype=self.dtype)
        objective = self.energy(shape).at(y)
        with blaming("regulariser" if self.solver.takes is Objective else "solver", "name"):
            self.solver.check(objective)

    def _check_complex(self) -> None:
        """Images must be what the operator is for."""
        if self.operator.for_complex is (not self.data.complex):
            kind = "complex" if self.operator.for_complex else "real"
            advice = (
                "set complex = true and name a folder of complex arrays"
                if self.operator.for_complex
                else 'take name = "multi-coil", with coils = 1 for a single one'
            )
            key = "data.complex" if self.operator.for_complex else "operator.name"
            raise Unfit(key, f"the operator is for {kind} images", advice=advice)

    def _check_learning(self) -> None:
        count, algorithm = self.data.count, self.algorithm.build()
        batch = algorithm.batch_size if isinstance(algorithm, ProjectedGradient) else None
        if batch and count and batch > count:
            what = f"a batch must not exceed the {count} images of data.count"
            raise Unfit("algorithm.batch_size", what, given=batch)


@contextmanager
def blaming(table: str, key: str | None = None) -> Generator[None]:
    """Errors inside are those of ``key``, or of the one that they name themselves."""
    try:
        yield
    except InputError as error:
        named = error.key if isinstance(error, Unfit) else key
        raise Unfit(table if named is None else f"{table}.{named}", str(error)) from error
