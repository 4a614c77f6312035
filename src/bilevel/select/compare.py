"""Several rules on the same images, beside the weight that was learned and the best there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_positive
from bilevel.ground.errors import BilevelError, InputError
from bilevel.model import Variational
from bilevel.select.choice import Choice, Curve, Outcome
from bilevel.select.group import solved
from bilevel.select.path import Path
from bilevel.select.rule import ADVICE, Rule
from bilevel.select.rules import Oracle
from bilevel.select.select import accuracy_for, check_choosable, check_span, groups, select

__all__ = ["LEARNED", "ORACLE", "Comparison", "Heard", "compare"]

LEARNED, ORACLE = "learned", "oracle"
"""Names of what is no rule: the weight learned from other images, and the best there is."""

Heard = Callable[[str], AbstractContextManager[Callable[[Tensor, Tensor], None] | None]]


@dataclass(frozen=True)
class Comparison:
    """What each rule chose for the same data; a rule that could not run is in ``failures``.

    ``before`` is the image without reconstruction, (b, c, h, w); ``target`` the truth, if known.
    """

    y: Tensor
    before: Tensor
    choices: Mapping[str, Choice]
    failures: Mapping[str, str] = field(default_factory=dict[str, str])
    target: Tensor | None = None
    interrupted: bool = False

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of choices made without the truth and without other images."""
        return tuple(name for name in self.choices if name not in (LEARNED, ORACLE))

    def error(self, name: str) -> Tensor:
        """The rms error of a choice's reconstructions, (b,) float64 [grey value].

        Raises:
            InputError: no such choice, or the truth is not known.
        """
        if self.target is None or name not in self.choices:
            given = name if self.target is not None else None
            raise InputError("errors need a choice that was made and a target", given=given)
        return rows.rms(self.choices[name].x - self.target).double()


def compare(
    energy: Variational,
    y: Tensor,
    rules: Mapping[str, Rule],
    *,
    target: Tensor | None = None,
    learned: float | None = None,
    span: tuple[float, float] | None = None,
    accuracy: float | None = None,
    heard: Heard | None = None,
) -> Comparison:
    """A weight for each image by every rule, each from the same start and for its own cost.

    A rule that does not apply is named in ``failures`` with the reason. Ctrl-C keeps the rules
    that are done.

    Args:
        energy: Ψ and R, as for :func:`~bilevel.select.select.select`.
        y: data, (b, c', h', w').
        rules: by name.
        target: the truth, (b, c, h, w); adds the choice "oracle".
        learned: a weight found on other images; adds the choice "learned".
        span: range of weights of every rule and of the oracle, as for ``select``.
        accuracy: of the reconstructions [grey value], as for ``select``.
        heard: called with each name; its context's value hears every weight tried.

    Raises:
        InputError: no rule, one named like an addition, or none that applies; a regulariser with
            further channels.

    Example:
        >>> import bilevel as bl
        >>> from bilevel.select import compare
        >>> truth = torch.ones(1, 1, 16, 16).double()
        >>> truth[..., 8:] = 0
        >>> y = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
        >>> tv = bl.regularisers.TotalVariation(1.0, 0.01).double()
        >>> energy = bl.Variational(bl.fidelities.SquaredL2().double(), tv)
        >>> rules = {"sure": bl.rules.SURE(0.1), "discrepancy": bl.rules.Discrepancy(0.1)}
        >>> found = compare(energy, y, rules, target=truth)
        >>> list(found.choices), bool(found.error("oracle") < found.error("discrepancy"))
        (['sure', 'discrepancy', 'oracle'], True)
    """
    taken = sorted({LEARNED, ORACLE} & set(rules))
    if taken or not (rules or learned or target is not None):
        what = f"a comparison needs rules with names other than {LEARNED} and {ORACLE}"
        raise InputError(what, given=taken or "none", advice="e.g. {'sure': rules.SURE(0.1)}")
    if span is not None:
        check_span(span)
    check_choosable(energy)
    energy.check(y)
    energy.settle(y)
    accuracy = accuracy_for(energy, y) if accuracy is None else accuracy
    choices: dict[str, Choice] = {}
    failures: dict[str, str] = {}
    interrupted = False
    try:
        if learned is not None:
            choices[LEARNED] = _given(energy, y, learned, accuracy, target)
        for name, rule in _sought(rules, target).items():
            try:
                with nullcontext() if heard is None else heard(name) as record:
                    choices[name] = select(
                        energy, y, rule, span=span, accuracy=accuracy, record=record
                    )
            except BilevelError as error:
                failures[name] = str(error)
    except KeyboardInterrupt:
        interrupted = True
    if not choices and not interrupted:
        given = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise InputError("none of the rules applies", given=given)
    return Comparison(y, energy.start(y).detach(), choices, failures, target, interrupted)


def _sought(rules: Mapping[str, Rule], target: Tensor | None) -> dict[str, Rule]:
    return dict(rules) if target is None else {**rules, ORACLE: Oracle(target)}


def _given(
    energy: Variational, y: Tensor, weight: float, accuracy: float, target: Tensor | None
) -> Choice:
    """One weight for all rows; the criterion is the error where the truth is known."""
    weight, began = check_positive(weight, "the learned weight"), time.monotonic()
    parts: list[Choice] = []
    for group in groups(energy, y):
        path = Path(energy, y, accuracy=accuracy, rows=group)
        point = path.at(torch.full((len(group),), weight, dtype=torch.float64))
        value = torch.full_like(point.weight, torch.nan)
        if target is not None:
            value = Oracle(target).value(point)
        outcome = [
            Outcome.FOUND if ok else Outcome.UNSOLVED for ok in solved(point.solution, accuracy)
        ]
        parts.append(
            Choice(
                rule=LEARNED,
                weight=point.weight,
                x=point.x,
                certificate=point.solution.certificate,
                curve=Curve.of([point.weight], [value]),
                outcome=tuple(outcome),
                advice=tuple(ADVICE[one] for one in outcome),
                cost=path.cost,
            )
        )
    choice = Choice.join(LEARNED, parts)
    choice.cost.seconds = time.monotonic() - began
    return choice
