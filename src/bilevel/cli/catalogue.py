"""The catalogue: the one table from the names that configurations use to classes."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.fields import FieldInfo

from bilevel.cli.settings import (
    descent,
    energies,
    learning,
    noises,
    operators,
    rules,
    searches,
    single_loops,
    solvers,
)
from bilevel.cli.settings.base import Settings
from bilevel.model.potentials import POTENTIALS

__all__ = ["CATALOGUE", "about", "name_of", "parameters"]

CATALOGUE: Mapping[str, Mapping[str, type]] = {
    "operators": {
        "identity": operators.Identity,
        "gaussian-blur": operators.GaussianBlur,
        "convolution": operators.Convolution,
        "mask": operators.Mask,
        "fourier-mask": operators.FourierMask,
        "downsampling": operators.Downsampling,
    },
    "noises": {
        "none": noises.NoNoise,
        "gaussian": noises.Gaussian,
        "poisson": noises.Poisson,
    },
    "fidelities": {
        "squared-l2": energies.SquaredL2,
        "l1": energies.L1,
        "kullback-leibler": energies.KullbackLeibler,
    },
    "regularisers": {
        "total-variation": energies.TotalVariation,
        "fields-of-experts": energies.FieldsOfExperts,
        "ridge-regulariser": energies.RidgeRegulariser,
        "tikhonov": energies.Tikhonov,
        "exact-tv": energies.ExactTotalVariation,
        "sparsity": energies.Sparsity,
    },
    "potentials": {name: type(potential) for name, potential in POTENTIALS.items()},
    "losses": {"squared-error": learning.SquaredError, "psnr": learning.PSNR},
    "solvers": {
        "default": solvers.Default,
        "automatic": solvers.Automatic,
        "nesterov": solvers.Nesterov,
        "l-bfgs": solvers.LBFGS,
        "newton-cg": solvers.NewtonCG,
        "half-quadratic": solvers.HalfQuadratic,
        "free-fista": solvers.FreeFISTA,
        "nmapg": solvers.NMAPG,
        "ipiano": solvers.IPiano,
        "gradient-descent": solvers.GradientDescent,
        "fista": solvers.FISTA,
        "pdhg": solvers.PDHG,
    },
    "algorithms": {
        "automatic": learning.Automatic,
        "maid": learning.MAID,
        "accelerated-maid": learning.AcceleratedMAID,
        "l-bfgs": learning.LBFGS,
        "dynamic-sampling": learning.DynamicSampling,
        "projected-gradient": descent.ProjectedGradient,
        "hoag": descent.HOAG,
        "gauss-newton": descent.GaussNewton,
        "trust-region": descent.TrustRegion,
        "torch": descent.TorchOptimiser,
        "grid": searches.Grid,
        "random": searches.RandomSearch,
        "optuna": searches.OptunaSearch,
        "dfo-ls": searches.DFOLS,
        "soba": single_loops.SOBA,
        "ma-soba": single_loops.MASOBA,
        "saba": single_loops.SABA,
        "srba": single_loops.SRBA,
        "amigo": single_loops.AmIGO,
        "stocbio": single_loops.StocBiO,
        "f2sa": single_loops.F2SA,
        "bome": single_loops.BOME,
        "isgd": single_loops.ISGD,
    },
    "rules": {
        "discrepancy": rules.Discrepancy,
        "sure": rules.SURE,
        "predicted-risk": rules.PredictedRisk,
        "gsure": rules.GSURE,
        "gaussianity": rules.Gaussianity,
        "gcv": rules.GCV,
        "hold-out": rules.HoldOut,
        "whiteness": rules.Whiteness,
        "l-curve": rules.LCurve,
        "quasi-optimality": rules.QuasiOptimality,
        "poisson-discrepancy": rules.PoissonDiscrepancy,
        "pure": rules.PURE,
    },
    "schedules": {
        "constant": learning.Constant,
        "geometric": learning.Geometric,
        "polynomial": learning.Polynomial,
        "adaptive": learning.Adaptive,
    },
}


def about(entry: type) -> str:
    """What an entry is, in one line.

    Example:
        >>> about(CATALOGUE["noises"]["none"])
        'No noise at all.'
    """
    return (entry.__doc__ or "").partition("\n")[0]


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
