"""Whether noise, operator and fidelity go together: the same for learning and for selection."""

from __future__ import annotations

from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.forward import OperatorSettings
from bilevel.cli.settings.kinds import FidelitySettings, NoiseSettings
from bilevel.cli.settings.operators import FourierMask
from bilevel.data import GaussianNoise, Noise, PoissonGaussianNoise, PoissonNoise
from bilevel.ground.errors import InputError
from bilevel.model.fidelities import KullbackLeibler
from bilevel.model.operators import Identity

__all__ = ["check_level", "check_noise"]

_UNITS = 10


def check_level(noise: Noise | None, reach: float, where: str, advice: str) -> None:
    """Raise InputError for more than ten times the range ``reach`` of all values: another unit."""
    if not isinstance(noise, GaussianNoise):
        return
    level = max(noise.sigma) if isinstance(noise.sigma, tuple) else noise.sigma
    if level > _UNITS * reach > 0:
        what = f"noise of that level cannot be in {where}, whose values span {reach:.3g}"
        raise InputError(what, given=f"{level:g}", advice=advice)


def check_noise(
    operator: OperatorSettings, noise: NoiseSettings | None, fidelity: FidelitySettings | None
) -> None:
    """Raise Unfit for counts or magnitudes of Fourier data, or a fidelity of other counts.

    Where noise or fidelity are not given (None) the one is taken that fits the other.
    """
    drawn = None if noise is None else noise.build()
    if drawn is not None and drawn.of_positive and isinstance(operator, FourierMask):
        what = "such noise needs data that are not negative, which Fourier data are"
        raise Unfit("noise.name", what, advice="use gaussian noise")
    if isinstance(drawn, PoissonGaussianNoise) and drawn.offset:
        what = "nothing takes the offset off the data again"
        advice = "leave it out: data are simulated as light, whatever the offset of the camera"
        raise Unfit("noise.offset", what, given=drawn.offset, advice=advice)
    if isinstance(drawn, PoissonNoise) and fidelity is None and not drawn.background:
        what = "kullback-leibler, the fidelity of counts, needs a positive background"
        advice = f"e.g. --noise poisson:peak={drawn.peak:g},background=0.01"
        raise Unfit("noise.background", what, given=drawn.background, advice=advice)
    term = None if fidelity is None else fidelity.build(Identity())
    if isinstance(term, KullbackLeibler) and drawn is not None:
        background = term.background
        if not (isinstance(drawn, PoissonNoise) and drawn.background == background):
            what = "kullback-leibler is for poisson noise of the same background"
            if isinstance(drawn, PoissonGaussianNoise):
                advice = 'take name = "gaussian-poisson", whose data may be negative'
                raise Unfit("fidelity.name", what, given="poisson-gaussian noise", advice=advice)
            advice = f'set name = "poisson" and background = {background:g} in [noise]'
            raise Unfit("fidelity.background", what, given=background, advice=advice)
