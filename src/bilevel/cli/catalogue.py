"""The catalogue: the names that configurations choose from, found in the library's own families."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pydantic.fields import FieldInfo

from bilevel import data
from bilevel.cli.importing import run_file
from bilevel.cli.settings import algorithms as upper
from bilevel.cli.settings import differing, kinds, learned, operators, several_scales
from bilevel.cli.settings.base import Settings
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.kinds import Table, table
from bilevel.cli.settings.pretraining import PretrainingSettings
from bilevel.cli.settings.reflect import parameters_of
from bilevel.cli.settings.rules import CountingRule, CriterionSettings, RuleSettings
from bilevel.cli.settings.weighted import SquaredL2Settings, WeightedErrorSettings
from bilevel.differentiate import Hypergradient, hypergradients
from bilevel.ground.contents import summary
from bilevel.ground.errors import InputError
from bilevel.learn import (
    Accuracy,
    Algorithm,
    algorithms,
    criteria,
    penalties,
    pretraining,
    schedules,
)
from bilevel.model import fidelities, losses, networks, regularisers
from bilevel.model import operators as forward
from bilevel.model.potentials import POTENTIALS
from bilevel.model.regularisers.foe import LEARNED
from bilevel.select import Rule, rules
from bilevel.solve import Solver, solvers

__all__ = ["CATALOGUE", "about", "import_parts", "name_of", "parameters"]


@dataclass(frozen=True)
class Family:
    """Classes of the library that derive from ``base`` and become tables of that kind.

    ``differing`` are entries of their own, with the classes that they take the place of;
    ``hidden`` is what no configuration chooses by name, ``more`` another module of the family.
    """

    module: ModuleType
    base: type
    kind: type[Table]
    differing: Mapping[str, type]
    hidden: tuple[type, ...] = ()
    more: ModuleType | None = None

    def entries(self) -> dict[str, type]:
        """All by name, those of the library by that of their class."""
        replaced = {t.stands_for for t in self.differing.values() if issubclass(t, Table)}
        found = dict(self.differing)
        more = [] if self.more is None else _classes(self.more)
        for part in [*_classes(self.module), *more]:
            if _is_part(part, self.base) and part not in (*self.hidden, *replaced):
                found[name_for(part)] = table(part, self.kind_of(part))
        return found

    def kind_of(self, part: type) -> type[Table]:
        """The base of the table for a class."""
        options = parameters_of(part)
        if self.kind is RuleSettings and "degrees" in options:
            return CountingRule
        if self.kind is kinds.RegulariserSettings and "image_channels" in options:
            return kinds.NetworkSettings
        accurate = "accuracy" in options and isinstance(options["accuracy"].default, Accuracy)
        return kinds.AccurateAlgorithm if accurate else self.kind


def _classes(module: ModuleType) -> list[type]:
    return [value for value in vars(module).values() if isinstance(value, type)]


def _is_part(part: type, base: type) -> bool:
    return issubclass(part, base) and part is not base and not inspect.isabstract(part)


SHORT = {
    "AmIGO": "amigo",
    "DFOLS": "dfo-ls",
    "DifferenceOfConvex": "idcnn",
    "ExactInfimalConvolutionTV": "exact-ictv",
    "ExactTotalGeneralisedVariation": "exact-tgv",
    "ExactTotalVariation": "exact-tv",
    "InputConvexNetwork": "icnn",
    "IPiano": "ipiano",
    "InfimalConvolutionTV": "ictv",
    "LBFGS": "l-bfgs",
    "LeastSquaresResidual": "lsr",
    "LocalNetwork": "cnn",
    "MASOBA": "ma-soba",
    "NoNoise": "none",
    "OptunaSearch": "optuna",
    "RandomSearch": "random",
    "StocBiO": "stocbio",
    "TorchOptimiser": "torch",
    "TotalGeneralisedVariation": "tgv",
}


def name_for(part: type) -> str:
    """The name of a class in configurations.

    Example:
        >>> name_for(fidelities.KullbackLeibler), name_for(solvers.NewtonCG)
        ('kullback-leibler', 'newton-cg')
    """
    name = part.__name__
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
    return SHORT.get(name, parted) if part.__module__.startswith("bilevel.") else parted


FAMILIES: Mapping[str, Family] = {
    "operators": Family(
        forward,
        forward.Operator,
        OperatorSettings,
        {
            "gaussian-blur": operators.GaussianBlur,
            "convolution": operators.Convolution,
            "mask": operators.Mask,
            "fourier-mask": operators.FourierMask,
            "multi-coil": operators.MultiCoil,
            "matrix": operators.Matrix,
            "downsampling": operators.Downsampling,
            "radon": operators.Radon,
        },
        (
            forward.Added,
            forward.Composition,
            forward.Convolution,
            forward.Differences,
            forward.Downsampling,
            forward.FourierMask,
            forward.GaussianBlur,
            forward.Linear,
            forward.Mask,
            forward.Matrix,
            forward.MultiCoil,
            forward.Radon,
            forward.Scaled,
            forward.Stacked,
            forward.Wavelets,
        ),
    ),
    "noises": Family(
        data,
        data.Noise,
        kinds.NoiseSettings,
        {
            "gaussian": table(data.GaussianNoise, differing.GaussianSettings),
            "poisson": table(data.PoissonNoise, differing.PoissonSettings),
            "poisson-gaussian": table(data.PoissonGaussianNoise, kinds.NoiseSettings),
            "impulse": table(data.ImpulseNoise, kinds.NoiseSettings),
            "rician": table(data.RicianNoise, kinds.NoiseSettings),
            "speckle": table(data.SpeckleNoise, kinds.NoiseSettings),
            "student-t": table(data.StudentTNoise, kinds.NoiseSettings),
        },
    ),
    "fidelities": Family(
        fidelities,
        fidelities.DataTerm,
        kinds.FidelitySettings,
        {"squared-l2": table(fidelities.SquaredL2, SquaredL2Settings)},
        (
            fidelities.Accompanied,
            fidelities.Fidelities,
            fidelities.Fidelity,
            fidelities.HeteroscedasticL2,
            fidelities.Masked,
            fidelities.OwnCoils,
            fidelities.SampledL2,
        ),
    ),
    "regularisers": Family(
        regularisers,
        regularisers.ImageTerm,
        kinds.RegulariserSettings,
        {
            "tgv": table(regularisers.TotalGeneralisedVariation, differing.CoupledSettings),
            "ictv": table(regularisers.InfimalConvolutionTV, differing.CoupledSettings),
            "total-variation": table(regularisers.TotalVariation, differing.MapSettings),
            "fields-of-experts": table(regularisers.FieldsOfExperts, differing.Experts),
            "grouped-experts": table(regularisers.GroupedExperts, differing.Banks),
            "learned": learned.Learned,
            "multi-scale": table(regularisers.MultiScale, several_scales.Scales),
            "rescaled": table(regularisers.Rescaled, several_scales.Rescaling),
            "ridge-regulariser": table(regularisers.RidgeRegulariser, differing.Cascade),
            "spline-ridge": table(regularisers.SplineRidge, differing.Banks),
            "exact-tgv": table(
                regularisers.ExactTotalGeneralisedVariation, differing.CoupledSettings
            ),
            "exact-ictv": table(regularisers.ExactInfimalConvolutionTV, differing.CoupledSettings),
            "exact-tv": table(regularisers.ExactTotalVariation, differing.MapSettings),
            "wavelet-sparsity": table(regularisers.WaveletSparsity, several_scales.Bands),
            "exact-wavelet-sparsity": table(
                regularisers.ExactWaveletSparsity, several_scales.ChannelledBands
            ),
        },
        (
            networks.Network,
            networks.NetworkRegulariser,
            regularisers.Box,
            regularisers.CascadeRegulariser,
            regularisers.Composed,
            regularisers.NonSmoothRegulariser,
            regularisers.Regulariser,
            regularisers.Sum,
        ),
        more=networks,
    ),
    "losses": Family(
        losses,
        losses.Loss,
        kinds.LossSettings,
        {"weighted-error": table(losses.WeightedError, WeightedErrorSettings)},
        (
            losses.ModuleLoss,
            losses.SegmentationLoss,
            losses.TargetChannels,
            losses.WeightedSum,
        ),
    ),
    "penalties": Family(
        penalties, penalties.Penalty, kinds.PenaltySettings, {}, (penalties.SumOfPenalties,)
    ),
    "pretraining": Family(pretraining, pretraining.Method, PretrainingSettings, {}),
    "criteria": Family(criteria, criteria.Criterion, CriterionSettings, {}),
    "solvers": Family(
        solvers,
        Solver,
        kinds.SolverSettings,
        {"default": differing.DefaultSolver, "automatic": differing.AutomaticSolver},
    ),
    "hypergradients": Family(
        hypergradients,
        Hypergradient,
        kinds.HypergradientSettings,
        {"automatic": differing.AutomaticHypergradient},
    ),
    "algorithms": Family(
        algorithms,
        Algorithm,
        kinds.AlgorithmSettings,
        {
            "automatic": table(algorithms.Automatic, kinds.AccurateAlgorithm),
            "maid": table(algorithms.MAID, upper.PlainMAID),
            "accelerated-maid": table(algorithms.MAID, upper.AcceleratedMAID),
            "bome": table(algorithms.BOME, upper.OneMetric),
            "grid": table(algorithms.Grid, upper.Search),
            "optuna": table(algorithms.OptunaSearch, upper.Search),
            "random": table(algorithms.RandomSearch, upper.Search),
        },
        (algorithms.Scaled,),
    ),
    "rules": Family(
        rules,
        Rule,
        RuleSettings,
        {"whiteness": table(rules.Whiteness, differing.WhitenessSettings)},
        (rules.Oracle,),
    ),
    "schedules": Family(schedules, schedules.Schedule, kinds.ScheduleSettings, {}),
}

CATALOGUE: dict[str, dict[str, type]] = {
    **{kind: family.entries() for kind, family in FAMILIES.items()},
    "potentials": {
        **{name: type(potential) for name, potential in POTENTIALS.items()},
        **LEARNED,
    },
}


def import_parts(path: Path) -> None:
    """Run a Python file; the parts that it defines are in the catalogue from then on.

    Raises:
        InputError: no such file, one that is no Python, a name that is taken, a part that lacks
            methods or has an option that no configuration can give, or a file without parts.
    """
    module = run_file(path)
    count, own = 0, [part for part in _classes(module) if part.__module__ == module.__name__]
    for part in own:
        _check_complete(part, own, path)
        for kind, family in FAMILIES.items():
            if _is_part(part, family.base):
                name, entries = name_for(part), CATALOGUE[kind]
                before = entries.get(name)
                if before is not None and not _same(before, path):
                    advice = "give the class another name"
                    raise InputError(f"{path}: the {kind} have a '{name}'", advice=advice)
                entries[name] = table(part, family.kind_of(part))
                count += 1
    if not count:
        bases = ", ".join(family.base.__name__ for family in FAMILIES.values())
        raise InputError(f"{path} defines no part", advice=f"derive a class from one of {bases}")


def _check_complete(part: type, own: Collection[type], path: Path) -> None:
    """Raise InputError for a part that lacks methods, unless others are derived from it."""
    methods = ((name, getattr(part, name, None)) for name in dir(part))  # modules check nothing
    lacking = [name for name, one in methods if getattr(one, "__isabstractmethod__", False)]
    derived = any(issubclass(other, part) and other is not part for other in own)
    if lacking and not derived and issubclass(part, tuple(f.base for f in FAMILIES.values())):
        what = f"{path}: {part.__name__} is not complete"
        given = f"no {', '.join(lacking)}"
        raise InputError(what, given=given, advice="define what is lacking")


def _same(entry: type, path: Path) -> bool:
    """Whether an entry came from that file: it may be imported again."""
    if not issubclass(entry, Table) or entry.stands_for is None:
        return False
    source = inspect.getmodule(entry.stands_for)
    return source is not None and getattr(source, "__file__", None) == str(path)


def about(entry: type) -> str:
    """What an entry is, in one line.

    Example:
        >>> about(CATALOGUE["noises"]["none"])
        'No noise at all.'
    """
    return summary(entry)


def parameters(entry: type) -> Mapping[str, FieldInfo]:
    """The keys that an entry takes in a configuration."""
    return entry.model_fields if issubclass(entry, Settings) else {}


def name_of(settings: Settings) -> str | None:
    """The name of the entry that ``settings`` belongs to; None if it is no entry."""
    for entries in CATALOGUE.values():
        for name, entry in entries.items():
            if entry is type(settings):
                return name
    return None
