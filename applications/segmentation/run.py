"""Learns the weight of TV by PSNR and by the task, and prints the table of the README.

    python applications/segmentation/run.py [--seeds 3]

Everything is judged on scenes that neither the segmenter nor θ was learned from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import bilevel as bl
from segmentation.scenes import scenes
from segmentation.task import judged, learned, segmenter


def one(seed: int, *, count: int = 8, size: int = 48) -> None:
    """All losses on one draw of scenes."""
    training, unseen = (scenes(count, size, seed=2 * seed + k) for k in (0, 1))
    net = segmenter(scenes(count, size, seed=1000 + seed))
    both = {
        "PSNR": (bl.losses.PSNR(1.0), training.pictures),
        "task": (bl.losses.SegmentationLoss(net), training.labelled),
    }
    for name, (loss, samples) in both.items():
        fit = learned(loss, samples)
        found = judged(fit, net, unseen)
        (weight,) = (float(v.exp()) for v in fit.theta.values())
        print(
            f"seed {seed}, by {name}: weight {weight:.3f}; unseen: PSNR "
            f"{found.psnr:.2f} dB, cross-entropy {found.cross_entropy:.3f} nat, "
            f"Dice {found.dice:.3f}; {len(fit.history) - 1} steps, {fit.status.name}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="draws of scenes")
    for seed in range(parser.parse_args().seeds):
        one(seed)
