"""Regularisers of what operators make of the image, and of several scales of it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.ground.theta import learnable
from bilevel.model.operators.block_means import BlockMeans
from bilevel.model.part import unaccounted
from bilevel.model.regularisers import (
    Composed,
    ExactTotalVariation,
    FieldsOfExperts,
    MultiScale,
    Sparsity,
    Tikhonov,
    TotalVariation,
)
from contracts.operators import Case, OperatorContract


class TestBlockMeans(OperatorContract):
    cases = (
        Case("even", lambda: BlockMeans(2, (6, 8)), (1, 6, 8), exact=True),
        Case("odd", lambda: BlockMeans(2, (5, 7)), (2, 5, 7), exact=True),
        Case("ragged", lambda: BlockMeans(4, (6, 9)), (1, 6, 9), exact=True),
        Case("one block", lambda: BlockMeans(8, (3, 5)), (1, 3, 5), exact=True),
        Case("pixels", lambda: BlockMeans(1, (3, 5)), (1, 3, 5), exact=True),
    )


def test_scales_are_means_of_blocks() -> None:
    x = torch.rand(2, 1, 7, 5, dtype=torch.float64)
    tv = TotalVariation(0.1, 0.05)
    both = MultiScale(tv, 2, torch.tensor([0.5, 3.0])).double()

    def means(side: int) -> torch.Tensor:
        wide = pad(x, (0, -5 % side, 0, -7 % side), value=torch.nan)
        blocks = wide.unfold(2, side, side).unfold(3, side, side)
        return blocks.flatten(-2).nanmean(-1)

    expected = tv(x) + 0.5 * tv(means(2)) + 3.0 * tv(means(4))
    torch.testing.assert_close(both(x), expected)
    assert set(learnable(both)) == {
        "log_level_weight",
        "regulariser.log_weight",
        "regulariser.log_smoothing",
    }


def test_learned_weights_of_levels_have_a_proved_hypergradient() -> None:
    pairs = bl.data.simulate(
        bl.data.embedded_images(size=11)[:2], bl.operators.Identity(), bl.data.GaussianNoise(0.1)
    )
    regulariser = MultiScale(TotalVariation(0.05, 0.1), 2)
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser).double()
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs.to(torch.float64))
    assert bl.check_hypergradient(problem).passed
    assert not unaccounted(regulariser)


def test_a_learned_operator_claims_nothing() -> None:
    blur = bl.operators.GaussianBlur(0.8, 3, "circular", learn=("sigma",))
    composed = Composed(Tikhonov(1.0), blur)
    assert [name.partition(".")[0] for name in unaccounted(composed)] == ["operator"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiScale(ExactTotalVariation(), 1), "smooth regulariser is needed"),
        (lambda: MultiScale(Tikhonov() + Tikhonov(), 1), "compose every term"),
        (lambda: MultiScale(Tikhonov(), 0), "levels must be a whole number"),
        (lambda: MultiScale(Tikhonov(), 2, torch.ones(3)), r"shape \(2,\), one a level"),
        (lambda: Composed(Sparsity(), bl.operators.Identity()), "smooth regulariser is needed"),
        (lambda: Composed(Tikhonov(), Tikhonov()), "operator must be an Operator"),  # type: ignore[arg-type]
        (lambda: MultiScale(Tikhonov(), 3).check((1, 9, 7)), "at least 8 pixels.*at most 2"),
        (
            lambda: MultiScale(FieldsOfExperts(bl.regularisers.dct_filters(3)), 3).check((1, 9, 9)),
            "copy of level 3 does not fit",
        ),
        (
            lambda: Composed(Tikhonov(), bl.operators.Downsampling(2)).check((1, 5, 4)),
            "multiples of the factor 2",
        ),
    ],
)
def test_bad_arguments_are_named(build, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
