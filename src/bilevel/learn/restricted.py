"""The same bilevel problem with fewer parameters to learn."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilevel.ground.errors import InputError, nearest
from bilevel.ground.theta import Theta, check_names, learnable
from bilevel.learn.penalties import Penalty
from bilevel.learn.separable import BilevelProblem

__all__ = ["chosen", "restricted"]


def chosen(names: Sequence[str], theta: Theta) -> list[str]:
    """The parameters of that name, with that beginning up to a dot, or with that end after one.

    Without names, all that are single numbers.

    Raises:
        InputError: a name of nothing that is learned, or no single number.

    Example:
        >>> theta = {"a.b": torch.zeros(()), "a.c": torch.zeros(2), "d.b": torch.zeros(())}
        >>> chosen(["b"], theta), chosen(["a"], theta), chosen([], theta)
        (['a.b', 'd.b'], ['a.b', 'a.c'], ['a.b', 'd.b'])
    """
    for name in names:
        if not any(_called(known, name) for known in theta):
            advice = nearest(name, [*theta, *(known.rpartition(".")[2] for known in theta)])
            raise InputError(f"no learnable parameter is called '{name}'", advice=advice)
    if names:
        return [known for known in theta if any(_called(known, name) for name in names)]
    found = [known for known, value in theta.items() if value.numel() == 1]
    if not found:
        advice = f"name some of {', '.join(theta)}"
        raise InputError("no learnable parameter is a single number", advice=advice)
    return found


def restricted(
    problem: BilevelProblem, names: Sequence[str], theta: Theta | None = None
) -> BilevelProblem:
    """The problem of the parameters ``names`` alone; all others stay as in ``theta``.

    Errors of its hypergradients are proved wherever those of the parameters that are left can be.

    Args:
        problem: in the units of the energy.
        names: as in :func:`chosen`.
        theta: the energy's own values where it has none.

    Raises:
        InputError: names of nothing that is learned.

    Example:
        >>> import bilevel as bl
        >>> x = bl.data.shepp_logan(16)
        >>> tv = bl.regularisers.TotalVariation(0.1, 0.01)
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), tv)
        >>> pairs = bl.data.Pairs(x, x, ("one",))
        >>> problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
        >>> list(restricted(problem, ["log_smoothing"]).theta)
        ['regulariser.log_smoothing']
    """
    left = chosen(names, problem.theta)
    energy, values = copy.deepcopy(problem.energy), theta or {}
    check_names(energy, values)
    with torch.no_grad():
        for name, parameter in energy.named_parameters():
            parameter.copy_(values.get(name, parameter))
            parameter.requires_grad_(name in left)
    level, penalty = problem.level, problem.penalty
    fixed = {name: value for name, value in learnable(problem.energy).items() if name not in left}
    rest = {name: values.get(name, value) for name, value in fixed.items()}
    return BilevelProblem(
        energy,
        problem.loss,
        problem.samples,
        solver=level.solver,
        hypergradient=level.hypergradient,
        chunk=level.chunk,
        max_steps=level.max_steps,
        penalty=None if penalty is None else _Partly(penalty, rest),
    )


@dataclass(frozen=True)
class _Partly(Penalty):
    """A penalty of all parameters, the others of which are ``rest``."""

    whole: Penalty
    rest: Theta

    def of(self, theta: Theta) -> Tensor:
        return self.whole.of({**self.rest, **theta})


def _called(known: str, name: str) -> bool:
    return known == name or known.startswith(f"{name}.") or known.endswith(f".{name}")
