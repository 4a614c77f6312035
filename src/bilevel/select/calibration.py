"""An a priori rule from a few pairs."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.model import Variational
from bilevel.select.rules import APriori, Oracle
from bilevel.select.select import select

__all__ = ["calibrate"]


def calibrate(
    energy: Variational, y: Tensor, target: Tensor, sigma: Tensor, exponent: float | None = None
) -> APriori:
    """w = c σ^q with the c and q that come nearest to the best weights of some pairs.

    The best weight of each pair is found with its truth; log c and q are the least squares fit of
    its logarithm to log σ. Of pairs at a single noise level only c can be told.

    Args:
        energy: as for :func:`bilevel.select`.
        y: data, (b, c', h', w').
        target: the truth, (b, c, h, w).
        sigma: noise level of each row, (b,) [unit of the data].
        exponent: q; fitted if None.

    Returns:
        The rule, with σ to be estimated; give it levels by ``replace(rule, sigma=...)``.

    Raises:
        InputError: levels that are not positive or not one a row, a single level without an
            exponent, or pairs of which none has a best weight.

    Example:
        >>> import bilevel as bl
        >>> x = bl.data.embedded_images(size=32)[:2]
        >>> noisy = [x + s * torch.randn_like(x) for s in (0.05, 0.1)]
        >>> levels = torch.tensor([0.05, 0.05, 0.1, 0.1])
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.TotalVariation(1.0))
        >>> rule = bl.calibrate(energy, torch.cat(noisy), torch.cat([x, x]), levels)
        >>> 0.5 < rule.exponent < 2
        True
    """
    levels = check_finite(torch.as_tensor(sigma).double(), "sigma")
    if levels.shape != (len(y),) or not bool((levels > 0).all()):
        given = f"{tuple(levels.shape)} for {len(y)} pairs"
        raise InputError("sigma must hold one positive level a pair", given=given)
    single = bool((levels == levels[0]).all())
    if exponent is None and single:
        advice = "give pairs at several levels, or exponent=1.0"
        raise InputError("an exponent cannot be told from one noise level", advice=advice)
    choice = select(energy, y, Oracle(target))
    found = choice.found
    if not bool(found.any()):
        raise InputError("no pair has a best weight", given=choice.outcome)
    t, best = levels[found].log(), choice.weight[found].double().log()
    if exponent is None:
        away = t - t.mean()
        exponent = float((away * best).sum() / away.square().sum())
    return APriori(sigma=None, factor=exp(float((best - exponent * t).mean())), exponent=exponent)
