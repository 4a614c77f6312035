"""What `help` says of the doors: short, and all that is behind them."""

from __future__ import annotations

import pydoc

import pytest

import bilevel as bl

FAMILIES = (
    "operators",
    "fidelities",
    "regularisers",
    "losses",
    "solvers",
    "hypergradients",
    "algorithms",
    "rules",
    "criteria",
    "penalties",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_help_of_a_family_is_a_list_of_its_members(name: str) -> None:
    family = getattr(bl, name)
    said = pydoc.plain(pydoc.render_doc(family))
    assert said.count("\n") < 100
    for member, value in vars(family).items():
        if isinstance(value, type):
            summary = (value.__doc__ or "").split("\n")[0]
            assert any(member in line and summary in line for line in said.splitlines()), member


@pytest.mark.parametrize("door", [bl, bl.extend])
def test_help_of_the_doors_is_short(door: object) -> None:
    said = pydoc.plain(pydoc.render_doc(door))
    assert said.count("\n") < 100


def test_a_seed_of_the_options_is_told_from_its_neighbour() -> None:
    from bilevel.cli.settings.reflect import explained

    assert explained(bl.algorithms.SOBA)["seed"].startswith("of the batches")
    assert explained(bl.algorithms.DynamicSampling)["seed"] == "of their order"
