"""A thousand random problems: what is claimed is true, and something is claimed.

``python -m contracts.thousand`` tries them all and prints how loose the claims are; with the name
of a family and two numbers, some of them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from contracts.enclosed import Check, Unknown, enclosed

COUNTS = {
    "smooth": 621,
    "learned operator": 128,
    "composite": 100,
    "exact": 60,
    "wide": 56,
    "wells": 35,
}
LEAST = {
    ("smooth", "distance"): 0.6,
    ("smooth", "hypergradient"): 0.45,
    ("smooth", "loss"): 0.7,
    ("learned operator", "distance"): 1.0,
    ("learned operator", "hypergradient"): 0.75,
    ("learned operator", "loss"): 1.0,
    ("composite", "distance"): 1.0,
    ("composite", "hypergradient"): 1.0,
    ("exact", "distance"): 1.0,
    ("exact", "gap"): 1.0,
    ("exact", "loss"): 1.0,
    ("wide", "distance"): 1.0,
    ("wide", "loss"): 1.0,
    ("wells", "local distance"): 0.3,
    ("wells", "hypergradient"): 1.0,
}
"""Shares of the checks of a block in which something must be claimed; networks claim little."""


def tried(family: str, seeds: Iterable[int]) -> list[Check]:
    """Of those problems whose reference converged, nine in ten; none is violated."""
    found: list[Check] = []
    unknown: list[int] = []
    numbers = list(seeds)
    for seed in numbers:
        try:
            drawn, checks = enclosed(family, seed)
        except Unknown:
            unknown.append(seed)
            continue
        false = [check for check in checks if check.violated]
        assert not false, (family, seed, drawn.name, drawn.y.dtype, drawn.unit, false)
        found += checks
    assert len(unknown) <= 0.1 * len(numbers) + 1, (family, unknown)
    return found


def share(checks: list[Check], of: str) -> float:
    """In how many of them something was claimed."""
    kind = [check.proved for check in checks if check.of == of]
    return sum(kind) / len(kind)


def summary(family: str, checks: list[Check]) -> str:
    """A line for each kind of claim: how many, how often claimed, how loose."""
    kinds: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        kinds[check.of].append(check)
    lines: list[str] = []
    for of, some in sorted(kinds.items()):
        loose = [check.looseness for check in some if check.looseness > 0]
        middle, worst = (median(loose), max(loose)) if loose else (float("nan"),) * 2
        line = f"{family:17} {of:27} {len(some):6d} checks, claimed {share(some, of):4.0%}"
        lines.append(f"{line}, looseness median {middle:8.3g} worst {worst:8.3g}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Some, or all."""
    chosen = {arguments[0]: range(*map(int, arguments[1:3]))} if arguments else None
    for family, seeds in (chosen or {f: range(n) for f, n in COUNTS.items()}).items():
        print(summary(family, tried(family, seeds)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
