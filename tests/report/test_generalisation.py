from __future__ import annotations

import math

import pytest

from bilevel.report import Generalisation, Score, Scores


def scores(*gains: float) -> Scores:
    return Scores(
        tuple(Score(str(k), 20.0, 20.0 + g, 0.5, 0.9, 1e-4, "") for k, g in enumerate(gains))
    )


def verdict(training: Scores, held_out: Scores, parameters: int = 2) -> Generalisation:
    return Generalisation(training, held_out, parameters=parameters, values=4096)


def test_a_map_that_fits_one_image_is_overfitting_and_says_the_numbers() -> None:
    found = verdict(scores(11.83), scores(0.2, 3.2, 0.0), parameters=4097)
    assert found.overfitted
    assert found.excess == pytest.approx(11.83 - 3.4 / 3)
    for part in (
        "This is overfitting",
        "+11.83",
        "+1.13",
        "4\u202f097 parameters",
        "4\u202f096 grey",
    ):
        assert part in found.sentence


def test_two_parameters_are_not_accused_because_images_differ() -> None:
    found = verdict(scores(6.4, 11.5, 10.7, 17.1), scores(8.2, 11.6, 2.8, 5.0))
    assert found.excess > 0.5
    assert not found.overfitted
    assert "no larger than images differ among themselves" in found.sentence


def test_two_parameters_are_accused_if_images_agree() -> None:
    found = verdict(scores(10.0, 10.1, 9.9), scores(5.0, 5.1, 4.9))
    assert found.overfitted
    assert "larger than images differ among themselves" in found.sentence


@pytest.mark.parametrize("parameters", [2, 4097])
@pytest.mark.parametrize("held_out", [8.0, 7.6, 12.0])
def test_no_sign_of_overfitting(parameters: int, held_out: float) -> None:
    found = verdict(scores(8.0), scores(held_out), parameters)
    assert not found.overfitted
    assert "no sign of overfitting" in found.sentence


def test_one_image_each_cannot_tell() -> None:
    found = verdict(scores(9.0), scores(5.0))
    assert not found.overfitted
    assert math.isinf(found.standard_error)
    assert "too few to say why" in found.sentence


def test_standard_error_pools_both_groups() -> None:
    found = verdict(scores(1.0, 3.0), scores(0.0, 2.0, 4.0))
    pooled = (1 * 2.0 + 2 * 4.0) / 3
    assert found.standard_error == pytest.approx(math.sqrt(pooled * (1 / 2 + 1 / 3)))
