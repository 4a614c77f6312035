"""A linear solution says which rows are solved and what to do about the others."""

from __future__ import annotations

import pytest
import torch

from bilevel.ground.errors import NotCertified
from bilevel.linear import LinearSolution, LinearStatus


def solution(*status: LinearStatus) -> LinearSolution:
    count = len(status)
    residual = torch.linspace(0.1, 0.2, count)
    return LinearSolution(
        torch.zeros(count, 2), residual, torch.arange(count), torch.tensor(status), 0
    )


def test_require_returns_what_converged() -> None:
    done = solution(LinearStatus.CONVERGED, LinearStatus.CONVERGED)
    assert done.require() is done


@pytest.mark.parametrize("status", [s for s in LinearStatus if s != LinearStatus.CONVERGED])
def test_every_other_status_is_no_convergence(status: LinearStatus) -> None:
    mixed = solution(LinearStatus.CONVERGED, status)
    assert mixed.converged.tolist() == [True, False]
    with pytest.raises(NotCertified, match=f"row 1: {status.name}, residual 0.2 after 1 steps"):
        mixed.require()


def test_many_rows_are_counted_and_each_advice_given_once() -> None:
    mixed = solution(*[LinearStatus.MAX_STEPS] * 7, LinearStatus.NEGATIVE_CURVATURE)
    with pytest.raises(NotCertified) as caught:
        mixed.require()
    message = str(caught.value)
    assert message.startswith("8 of 8 linear systems")
    assert "row 4" in message
    assert "row 5" not in message
    assert "3 more" in message
    assert message.count("raise max_steps") == 1
    assert "use minres" in message
