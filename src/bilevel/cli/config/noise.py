"""Whether noise, operator and fidelity go together: the same for learning and for selection."""

from __future__ import annotations

from bilevel.cli.settings.base import Unfit
from bilevel.cli.settings.energies import FidelitySettings, KullbackLeibler
from bilevel.cli.settings.noises import NoiseSettings, Poisson
from bilevel.cli.settings.operators import FourierMask, OperatorSettings

__all__ = ["check_noise"]


def check_noise(
    operator: OperatorSettings, noise: NoiseSettings | None, fidelity: FidelitySettings | None
) -> None:
    """Raise Unfit for counts of Fourier data, or a fidelity of counts that assumes other counts.

    Where noise or fidelity are not given (None) the one is taken that fits the other.
    """
    if isinstance(noise, Poisson) and isinstance(operator, FourierMask):
        what = "poisson noise needs data that are not negative, which Fourier data are not"
        raise Unfit("noise.name", what, advice="use gaussian noise")
    if isinstance(noise, Poisson) and fidelity is None and not noise.background:
        what = "kullback-leibler, the fidelity of counts, needs a positive background"
        advice = f"e.g. --noise poisson:peak={noise.peak:g},background=0.01"
        raise Unfit("noise.background", what, given=noise.background, advice=advice)
    if isinstance(fidelity, KullbackLeibler) and noise is not None:
        background = fidelity.background
        if not (isinstance(noise, Poisson) and noise.background == background):
            what = "kullback-leibler is for poisson noise of the same background"
            advice = f'set name = "poisson" and background = {background:g} in [noise]'
            raise Unfit("fidelity.background", what, given=background, advice=advice)
