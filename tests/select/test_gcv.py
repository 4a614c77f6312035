"""Where GCV has an answer, and where it must not claim one."""

from __future__ import annotations

from torch import Tensor

from bilevel.data import GaussianNoise, embedded_images, simulate
from bilevel.model import Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.model.operators import Identity
from bilevel.model.regularisers import TotalVariation
from bilevel.select import Choice, Outcome, rules, select

SIGMA = 0.1


def crop() -> Tensor:
    """A picture with black and white parts."""
    return embedded_images()[2:3, :, 128:176, 128:176].contiguous()


def chosen(y: Tensor, robustness: float = 1.0) -> Choice:
    energy = Variational(SquaredL2(), TotalVariation(1.0, 0.01))
    return select(energy, y, rules.GCV(robustness))


def error(choice: Choice) -> float:
    return float((choice.x - crop()).square().mean().sqrt())


def test_noise_that_was_clipped_gets_no_answer_from_plain_gcv() -> None:
    y = simulate(crop(), Identity(), GaussianNoise(SIGMA), seed=0).y
    whole, clipped, robust = chosen(y), chosen(y.clamp(0, 1)), chosen(y.clamp(0, 1), 0.3)
    assert whole.outcome == robust.outcome == (Outcome.FOUND,)
    assert max(error(whole), error(robust)) < 0.6 * SIGMA
    assert clipped.outcome == (Outcome.EDGE,)
    assert "robustness=0.3" in clipped.advice[0]
    assert "clipped" in clipped.advice[0]
