"""Samples and changed fits for the tests of reports."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from bilevel.learn import Fit, Record
from bilevel.report import Samples


def make_samples(
    count: int = 2,
    *,
    shape: tuple[int, int, int] = (1, 24, 20),
    before: float = 0.1,
    after: float = 0.02,
    certificate: float = 1e-4,
    prefix: str = "sample",
) -> Samples:
    """Images with errors of constant size: 20 dB before and 34 dB after."""
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(count, *shape, generator=rng)
    signs = torch.where(torch.rand(count, *shape, generator=rng) < 0.5, -1.0, 1.0)
    return Samples(
        ids=[f"{prefix}-{k}" for k in range(count)],
        before=target + before * signs,
        after=target + after * signs,
        target=target,
        certificate=torch.full((count,), certificate, dtype=torch.float64),
    )


def with_last(fit: Fit, **changes: float) -> Fit:
    """The fit with its last record changed."""
    return replace(fit, history=(*fit.history[:-1], replace(fit.history[-1], **changes)))


def unproved(record: Record) -> Record:
    """As the record of an energy about which nothing is known."""
    nothing = {"interval": math.inf, "error": math.inf, "certificate": math.inf}
    return replace(record, estimate=math.nan, **nothing)
