"""A weight learned for a task segments better than the one of the best PSNR, which looks better."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import bilevel as bl

sys.path.insert(0, str(Path(__file__).parents[2] / "applications"))

from segmentation.scenes import scenes
from segmentation.task import energy, judged, learned, segmenter


def test_the_task_is_served_by_another_weight_than_psnr() -> None:
    training, unseen = scenes(3, 28, seed=0), scenes(3, 28, seed=1)
    net = segmenter(scenes(6, 28, seed=1000), steps=100)
    by_psnr = learned(bl.losses.PSNR(1.0), training.pictures, steps=5)
    task = bl.losses.SegmentationLoss(net)
    by_task = learned(task, training.labelled, steps=5)
    looks, serves = (judged(fit, net, unseen) for fit in (by_psnr, by_task))
    assert looks.psnr > serves.psnr + 0.1
    assert serves.cross_entropy < 0.9 * looks.cross_entropy
    assert by_task.theta["regulariser.log_weight"] > by_psnr.theta["regulariser.log_weight"]


def test_the_gradient_of_the_task_is_right() -> None:
    some = scenes(2, 16, seed=0)
    net = segmenter(scenes(2, 16, seed=1), steps=5)
    loss = bl.losses.SegmentationLoss(net)
    problem = bl.BilevelProblem(energy(), loss, some.labelled)
    report = bl.check_hypergradient(problem, tol=1e-9)
    assert report.passed, str(report)
    both = torch.cat([some.clean, some.labels], 1)
    picture = bl.losses.TargetChannels(bl.losses.SquaredError(), 0, 1)
    mixed = picture + 0.1 * bl.losses.TargetChannels(loss, 1, 1)
    joint = bl.BilevelProblem(energy(), mixed, bl.data.Pairs(some.y, both, some.names))
    clean = bl.BilevelProblem(energy(), bl.losses.SquaredError(), some.pictures)
    found = [p.value(p.theta, tol=1e-6) for p in (clean, problem, joint)]
    assert found[2] == pytest.approx(found[0] + 0.1 * found[1], rel=1e-6)
    assert joint.contrast == clean.contrast
    other = torch.zeros(2, 3, 16, 16).double()
    wrong = bl.data.Pairs(some.y, other, some.names)
    with pytest.raises(bl.InputError, match="logits"):
        bl.BilevelProblem(energy(), loss, wrong)
