from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.report import Samples, Scores
from bilevel.solve import Status
from report.examples import make_samples


def test_scores_are_those_of_the_images() -> None:
    scores = Scores.of(make_samples(3, before=0.1, after=0.01))
    assert [row.id for row in scores.rows] == ["sample-0", "sample-1", "sample-2"]
    for row in (*scores.rows, scores.mean):
        assert row.psnr_before == pytest.approx(20.0, abs=1e-4)
        assert row.psnr_after == pytest.approx(40.0, abs=1e-4)
        assert row.gain == pytest.approx(20.0, abs=1e-4)
        assert row.ssim_before < row.ssim_after < 1
    assert scores.scatter == pytest.approx(0.0, abs=1e-4)
    assert scores.mean.status == "3 of 3 certified"


def test_batches_of_different_sizes_are_joined() -> None:
    wide, tall = make_samples(2, shape=(1, 12, 30)), make_samples(1, shape=(1, 30, 12), after=0.01)
    scores = Scores.of([wide, tall])
    assert len(scores) == 3
    expected = (2 * scores.rows[0].psnr_after + scores.rows[2].psnr_after) / 3
    assert scores.mean.psnr_after == pytest.approx(expected)


def test_what_is_not_known_stays_unknown() -> None:
    samples = make_samples(2, shape=(1, 8, 8), certificate=math.inf)
    scores = Scores.of(samples)
    assert scores.certified == 0
    assert math.isnan(scores.mean.ssim_after)
    assert [row.status for row in scores.rows] == ["", ""]
    assert math.isnan(Scores.of(make_samples(1)).scatter)


def test_one_uncertified_image_makes_the_mean_uncertified() -> None:
    certificate = torch.tensor([1e-4, math.inf])
    status = torch.tensor([Status.CONVERGED, Status.MAX_STEPS])
    scores = Scores.of(replace(make_samples(2), certificate=certificate, status=status))
    assert [row.status for row in scores.rows] == ["converged", "max steps"]
    assert scores.mean.certificate == math.inf
    assert scores.mean.status == "1 of 2 certified, 1 not as accurate as asked"


def test_equal_images_gain_nothing() -> None:
    assert Scores.of(make_samples(1, before=0.0, after=0.0)).rows[0].gain == 0


def test_many_images_are_scored_in_chunks() -> None:
    many = make_samples(19)
    one = Samples(["x"], many.before[17:18], many.after[17:18], many.target[17:18], torch.ones(1))
    assert Scores.of(many).rows[17].ssim_after == pytest.approx(Scores.of(one).rows[0].ssim_after)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["a"]}, "2 samples need 2 ids"),
        ({"certificate": torch.zeros(3)}, "2 samples need 2 ids"),
        ({"status": torch.zeros(1)}, "2 samples need 2 ids"),
        ({"before": torch.zeros(2, 1, 24, 21)}, "before must have the shape"),
        ({"after": torch.zeros(1, 1, 24, 20)}, "after must have the shape"),
        ({"after": torch.full((2, 1, 24, 20), math.nan)}, "after must be finite"),
        ({"target": torch.zeros(24, 20)}, r"target must have shape \(b, c, h, w\)"),
    ],
)
def test_bad_samples(changes: dict[str, object], message: str) -> None:
    with pytest.raises(bl.InputError, match=message):
        replace(make_samples(2), **changes)


def test_no_samples() -> None:
    with pytest.raises(bl.InputError, match="at least one sample"):
        Scores.of([])


def test_a_distance_that_says_nothing_is_not_counted() -> None:
    distances = torch.tensor([1e-3, 1e4, torch.inf])
    samples = replace(make_samples(3), certificate=distances)
    assert Scores.of(samples).certified == 1


def test_what_was_missed_and_what_got_worse_are_told_apart() -> None:
    status = torch.tensor([Status.STALLED, Status.CONVERGED])
    samples = replace(make_samples(2), status=status)
    scores = Scores.of(samples)
    assert len(scores.missed) == 1
    assert "1 of 2 reconstructions missed" in scores.missed[0]
    assert scores.worse == []
    turned = Scores.of(replace(samples, before=samples.after, after=samples.before))
    assert len(turned.worse) == 1
    assert turned.shortfalls == [*turned.missed, *turned.worse]
