"""What chooses a weight for data: the model without its weight, the noise, and the rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bilevel import data
from bilevel.cli.catalogue import CATALOGUE, name_of
from bilevel.cli.config.configuration import Configuration
from bilevel.cli.config.files import with_files
from bilevel.cli.config.noise import check_noise
from bilevel.cli.config.reading import blamed, sentence, table_in, text_in
from bilevel.cli.config.validation import Problem, validate
from bilevel.cli.settings.base import Choice, Positive, Settings, Unfit
from bilevel.cli.settings.differing import (
    ESTIMATE,
    Box,
    CameraTable,
    GaussianSettings,
    MapSettings,
    PoissonSettings,
    Ridge,
)
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.kinds import (
    FidelitySettings,
    NoiseSettings,
    RegulariserSettings,
    table,
)
from bilevel.cli.settings.rules import RuleSettings
from bilevel.ground.checks import check_choice
from bilevel.ground.errors import InputError, nearest, shortened
from bilevel.model import Variational
from bilevel.model.fidelities import KullbackLeibler
from bilevel.model.operators import Identity, Shape
from bilevel.model.regularisers import TotalVariation
from bilevel.select.select import check_choosable

__all__ = ["Selection", "layout_in", "made", "read_selection", "tables_for_learning"]

Kind = TypeVar("Kind", bound=Settings)
_REFUSED = {"solver": "rules choose their own solver"}
"""Tables that change what is computed, but not here."""
_COMPLEX = 2
"""Channels of a complex image."""
BACKGROUND = 0.01
"""Of counts that none is given for [grey value]."""


class Selection(Settings):
    """A model whose weight, or a factor of several, is chosen.

    ``noise`` None is Gaussian noise of unknown level.

    With a camera, it is that of the light behind its numbers, and known for the unit of a file.

    ``precision`` None is that of the data.
    """

    precision: Literal["float32", "float64"] | None = None
    operator: Annotated[OperatorSettings, Choice("operators", "identity")] = table(
        Identity, OperatorSettings
    )()
    camera: CameraTable | None = None
    noise: Annotated[NoiseSettings | None, Choice("noises", "gaussian")] = None
    fidelity: Annotated[FidelitySettings | None, Choice("fidelities", "squared-l2")] = None
    regulariser: Annotated[RegulariserSettings, Choice("regularisers", "total-variation")] = table(
        TotalVariation, MapSettings
    )()
    ridge: Ridge | None = None
    box: Box | None = None
    rule: Annotated[RuleSettings | None, Choice("rules")] = None
    span: Annotated[tuple[Positive, Positive], Field(strict=False)] | None = None

    @staticmethod
    def of(configuration: Configuration) -> Selection:
        """The same model with the weight left open.

        Raises:
            InputError: a map of weights.
        """
        shared = (Selection.model_fields.keys() & Configuration.model_fields.keys()) - {"camera"}
        return Selection(**{name: getattr(configuration, name) for name in shared})

    def seen_by(self, camera: data.Camera | None) -> Selection:
        """The same model for light that such a camera saw, which is never negative.

        Raises:
            InputError: a camera without read noise.
        """
        if camera is None:
            return self
        noise = {"name": "poisson", **vars(camera.noise.shifted)}
        box = Box(lower=0.0) if self.box is None else self.box.above(0.0)
        own = {"camera": None, "noise": made("noises", noise, NoiseSettings), "box": box}
        return self.model_copy(update=own)

    @property
    def dtype(self) -> torch.dtype:
        """Of data and images."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def in_precision(self, dtype: torch.dtype) -> Selection:
        """The same model in float32 or float64."""
        name = "float64" if dtype == torch.float64 else "float32"
        return self.model_copy(update={"precision": name})

    def image_shape(self, data_shape: Shape) -> Shape:
        """Of the images behind data (c', h', w')."""
        channels = _COMPLEX if self.operator.for_complex else data_shape[0]
        like = (channels, data_shape[1], data_shape[2])
        return self.operator.build(like).image_shape(data_shape)

    def energy(
        self,
        shape: Shape,
        data_weight: float | None = None,
        *,
        contrast: float = 1.0,
        seen: Tensor | None = None,
    ) -> Variational:
        """The energy for images (c, h, w) of that contrast; R has weight 1, or its several ones.

        Only the data ``seen`` (h', w') exist; all if None. With ``data_weight`` v that of the
        fidelity is v times as large, and learned: the weight of the regulariser is then 1/v.

        Raises:
            InputError: a regulariser whose weight no rule can choose.
        """
        fidelity = self._fidelity
        if data_weight is not None:
            weight = data_weight * fidelity.model_dump()["weight"]
            fidelity = fidelity.model_copy(update={"weight": weight, "learn": ("weight",)})
        weight = {} if self._weighted else {"weight": 1.0}
        unit = self.regulariser.model_copy(update={**weight, "learn": ()})
        own = self.operator
        operator = own.build(shape) if seen is None else own.seeing(shape, seen)
        built, regulariser = own.fidelity(fidelity, operator, shape), unit.build(shape)
        regulariser.check(shape)
        if self.ridge is not None:
            strength = self.ridge.first_weight(contrast, fidelity.degree)
            weight = strength / self.first_weight(contrast)
            ridge = self.ridge.model_copy(update={"weight": weight, "learn": False})
            regulariser = regulariser + ridge.build()
        if self.box is not None:
            regulariser = regulariser + self.box.build()
        energy = Variational(built, regulariser).to(self.dtype)
        check_choosable(energy)
        return energy

    def first_weight(self, contrast: float) -> float:
        """The weight of the regulariser for images of that contrast; only a ridge refers to it."""
        if self._weighted:
            return 1.0
        return self.regulariser.first_weight(contrast, self._fidelity.degree)

    @property
    def _weighted(self) -> bool:
        """Whether several weights are given, of which the one that is chosen is a factor."""
        return "weight" in self.regulariser.arrays()

    def weight_at(self, log_weight: torch.Tensor) -> float:
        """The weight of the regulariser where the fidelity has that one in its place."""
        return float(self._fidelity.model_dump()["weight"] / log_weight.double().exp())

    @property
    def named_rule(self) -> tuple[str, RuleSettings]:
        """The rule asked for, or the one for what is known of the noise and the operator."""
        if self.rule is not None:
            return name_of(self.rule) or "rule", self.rule
        unknown = GaussianSettings if self.camera is None else PoissonSettings
        kind = unknown if self.noise is None else type(self.noise)
        name = kind.rules[0 if self.operator.stands_for is Identity else 1]
        if self.noise is None and self.camera is None and self._counts:
            name = "whiteness"  # counts of unknown peak
        return name, made("rules", {"name": name}, RuleSettings)

    @property
    def _counts(self) -> bool:
        """Whether a fidelity of counts is asked for."""
        built = None if self.fidelity is None else self.fidelity.build(Identity())
        return isinstance(built, KullbackLeibler)

    @property
    def _fidelity(self) -> FidelitySettings:
        if self.fidelity is not None:
            return self.fidelity
        fits = {"name": "squared-l2"} if self.noise is None else self.noise.fidelity
        return made("fidelities", fits, FidelitySettings)

    @model_validator(mode="after")
    def _check(self) -> Selection:
        own = self.regulariser
        if not self._weighted and isinstance(own, MapSettings) and (key := own.varying):
            advice = f"leave out {key}"
            raise Unfit(f"regulariser.{key}", "rules choose one weight, not a map", advice=advice)
        if (key := self.operator.left_open) is not None:
            what = "rules choose a weight for an operator that is known"
            raise Unfit(f"operator.{key}", what, advice="learn with `bilevel learn`")
        check_noise(self.operator, self.noise, self.fidelity)
        if self.camera is not None:
            self._check_camera()
        if self.span is not None and not self.span[0] < self.span[1]:
            given = f"[{self.span[0]:g}, {self.span[1]:g}]"
            raise Unfit("span", "the range of weights must grow", given=given)
        return self

    def _check_camera(self) -> None:
        """It says of noise and fidelity all there is to say."""
        for name in ("noise", "fidelity"):
            if getattr(self, name) is not None:
                raise Unfit(name, f"the {name} is that of [camera]", advice="leave it out")
        if self.box is not None and self.box.upper is not None and self.box.upper <= 0:
            raise Unfit("box.upper", "light is not negative", given=self.box.upper)
        try:
            self.seen_by(cast(CameraTable, self.camera).build())
        except InputError as error:
            raise Unfit("camera.read_noise", str(error)) from error


def made(kind: str, table: Mapping[str, object], of: type[Kind]) -> Kind:
    """The settings that a table with a name stands for.

    Raises:
        InputError: an unknown name, or options that do not fit.
    """
    name = check_choice(str(table["name"]), CATALOGUE[kind], kind.removesuffix("s"))
    problems: list[Problem] = []
    options = {key: value for key, value in table.items() if key != "name"}
    settings = validate(CATALOGUE[kind][name], options, problems, (name,))
    if not isinstance(settings, of):
        raise InputError(problems[0].message)
    return settings


def read_selection(path: Path | None, options: Mapping[str, object]) -> Selection:
    """From the tables of a file, and from options that replace them; None removes a table.

    Tables that only learning needs are left aside (:func:`tables_for_learning` names them), tables
    that rules cannot heed are refused. Counts without a background get that of the
    fidelity, or 0.01: the reconstruction stays unbiased, its noise is taken a little too large.

    Raises:
        InputError: as :func:`~bilevel.cli.config.reading.read`.
    """
    text = "" if path is None else text_in(path)
    given: Mapping[str, Any] = {} if path is None else table_in(path, text)
    for name in given:
        if name not in {**Selection.model_fields, **Configuration.model_fields}:
            advice = nearest(name, Selection.model_fields)
            what = f"{path}: unknown table or key '{shortened(name)}'"
            raise InputError(what, advice=advice)
        if name in _REFUSED:
            problem = Problem((name,), f"{name}: {_REFUSED[name]}; delete the table")
            raise InputError(sentence(str(path), text, [problem]))
    try:
        own = with_files(given, Path() if path is None else path.parent)
        options = with_files(options, Path())
    except Unfit as error:
        words = f"{error.key}: {error}" if path is None else blamed(str(path), text, error)
        raise InputError(words) from error
    tables = {name: own[name] for name in Selection.model_fields if name in own}
    tables = {name: value for name, value in {**tables, **options}.items() if value is not None}
    noise = tables.get("noise")
    if isinstance(noise, Mapping) and cast(Mapping[str, Any], noise).get("sigma") == ESTIMATE:
        del tables["noise"]
    problems: list[Problem] = []
    selection = validate(Selection, _with_background(tables), problems)
    if problems or not isinstance(selection, Selection):
        words = problems[0].message if path is None else sentence(str(path), text, problems)
        raise InputError(words)
    return selection


def tables_for_learning(path: Path) -> list[str]:
    """The tables of a file that :func:`read_selection` leaves aside, and :func:`layout_in` too."""
    tables = {**table_in(path, text_in(path))}
    if isinstance(tables.get("data"), Mapping) and tables["data"].keys() <= {"layout"}:
        del tables["data"]
    return [name for name in tables if name not in Selection.model_fields]


def layout_in(path: Path) -> data.Layout | None:
    """What [data] says of arrays of three dimensions, if it does.

    Raises:
        InputError: a word that is none of these.
    """
    table = table_in(path, text_in(path)).get("data")
    given = cast(Mapping[str, Any], table).get("layout") if isinstance(table, Mapping) else None
    if given is not None:
        check_choice(str(given), get_args(data.Layout), "layout")
    return cast("data.Layout | None", given)


def _with_background(tables: dict[str, Any]) -> dict[str, Any]:
    """Tables whose counts have a background wherever the fidelity asks for one."""
    noise, fidelity = tables.get("noise"), tables.get("fidelity", {"name": "kullback-leibler"})
    if not (isinstance(noise, Mapping) and isinstance(fidelity, Mapping)):
        return tables
    noise, fidelity = cast(Mapping[str, Any], noise), cast(Mapping[str, Any], fidelity)
    counts = noise.get("name") == "poisson" and fidelity.get("name") == "kullback-leibler"
    if not counts or "background" in noise:
        return tables
    background = fidelity.get("background", BACKGROUND)
    return {**tables, "noise": {**noise, "background": background}}
