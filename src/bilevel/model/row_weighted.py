"""One energy, a weight for each row: J_k(x) = Ψ(A x; y_k) + w_k R(x)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor

from bilevel.ground import rows
from bilevel.ground.checks import check_finite
from bilevel.ground.errors import InputError
from bilevel.ground.theta import Theta, frozen
from bilevel.linear import LinearMap
from bilevel.model.bounds import Bounds, Variation
from bilevel.model.cost import Cost
from bilevel.model.energy import EnergyObjective, in_double
from bilevel.model.objective import SmoothObjective
from bilevel.model.preconditioner import Preconditioner, joined
from bilevel.model.regularisers.regulariser import Sum
from bilevel.model.splitting import Absent, is_smooth
from bilevel.model.variational import Variational

__all__ = ["RowWeighted"]


class RowWeighted(SmoothObjective):
    """x -> Ψ(A x; y_k) + w_k R(x) in row k, for choosing a weight w_k for each image.

    θ is ``{"log_weight": log w}``, (b,). Bounds are those of both terms row by row; terms that are
    diagonal in the Fourier basis are added there first.

    Args:
        energy: Ψ and R; w multiplies R as it is, whatever weights it carries itself.
        y: data, (b, c', h', w').
        weight: w > 0 [1], (b,) float64.
        cost: the ledger.

    Raises:
        InputError: an energy that is not smooth, weights that are not positive or do not fit.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> two = RowWeighted(energy, torch.ones(2, 1, 1, 1), torch.tensor([1.0, 3.0]).double())
        >>> two.grad(torch.ones(2, 1, 1, 1)).flatten()
        tensor([1., 3.])
    """

    def __init__(
        self, energy: Variational, y: Tensor, weight: Tensor, cost: Cost | None = None
    ) -> None:
        """Check both terms once."""
        regulariser = energy.regulariser
        parts = regulariser.parts if isinstance(regulariser, Sum) else [regulariser]
        if not is_smooth(energy.fidelity, parts):
            advice = "smooth it, e.g. TotalVariation(smoothing=1e-3) and SquaredL2"
            raise InputError("weights of rows need a smooth energy", advice=advice)
        if weight.shape != (len(y),) or not bool((check_finite(weight, "weight") > 0).all()):
            given = f"shape {tuple(weight.shape)}, least {float(weight.min()):.3g}"
            raise InputError(
                f"one positive weight for each of {len(y)} rows is needed", given=given
            )
        spent = Cost() if cost is None else cost
        energy.check(y)
        energy, y = frozen(energy), y.detach().clone()
        self._energy, self.weight = energy, weight.double().clone()
        data = Variational(energy.fidelity, Sum([]))
        penalty = Variational(Absent(energy.fidelity), energy.regulariser)
        self._terms = EnergyObjective(data, y, spent), EnergyObjective(penalty, y, Cost())

    @property
    def y(self) -> Tensor:
        """The data."""
        return self._terms[0].y

    @property
    def cost(self) -> Cost:
        """The ledger."""
        return self._terms[0].cost

    @property
    def theta(self) -> Theta:
        """log w, (b,)."""
        return {"log_weight": self.weight.log()}

    @property
    def bounds(self) -> Bounds:
        """mu_Ψ + w mu_R and L_Ψ + w L_R, or from the spectrum of both."""
        return self._bounds

    @cached_property
    def _bounds(self) -> Bounds:
        data, penalty = (term.bounds for term in self._terms)
        scaled = replace(
            penalty, mu=self.weight * penalty.mu, lipschitz=self.weight * penalty.lipschitz
        )
        total = data + scaled
        return replace(total, mu=torch.maximum(total.mu, self._joint_mu()))

    def _joint_mu(self) -> Tensor:
        _, c, h, w = self.start().shape
        data = self._energy.fidelity.spectrum((c, h, w))
        own = self._energy.regulariser.spectrum((c, h, w))
        if data is None or own is None:
            return torch.full_like(self.weight, -torch.inf)
        joint = data.flatten() + self.weight[:, None] * own.flatten()
        return joint.amin(1) - 1e-12 * joint.abs().amax(1)

    def start(self) -> Tensor:
        """That of the fidelity."""
        return self._terms[0].start()

    def penalty(self, x: Tensor) -> Tensor:
        """R(x), (b,)."""
        return self._terms[1].value(x)

    def penalty_grad(self, x: Tensor) -> Tensor:
        """∇R(x)."""
        return self._terms[1].grad(x)

    def fidelity(self, x: Tensor) -> Tensor:
        """Ψ(A x; y), (b,)."""
        return self._terms[0].value(x)

    def value(self, x: Tensor) -> Tensor:
        """Ψ + w R, (b,)."""
        return self.fidelity(x) + self.weight.to(x) * self.penalty(x)

    def grad(self, x: Tensor) -> Tensor:
        """∇Ψ + w ∇R."""
        return self._terms[0].grad(x) + self._wide(x) * self.penalty_grad(x)

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both, each term computing its features once."""
        (value, slope), (further, pull) = (term.value_and_grad(x) for term in self._terms)
        return value + self.weight.to(x) * further, slope + self._wide(x) * pull

    def hessian(self, x: Tensor) -> LinearMap:
        """∇²Ψ + w ∇²R; an application counts as one HVP a row."""
        data, own = (term.hessian(x).without_inverse() for term in self._terms)
        wide = self._wide(x)
        scaled = LinearMap.per_row(lambda v, index: wide[index] * v, len(x))
        both = LinearMap.sum([data, _after(scaled, own)])
        return both.with_inverse(lambda: self._inverse(x))

    def _inverse(self, x: Tensor) -> LinearMap:
        found = self.preconditioner(x)
        return LinearMap.shared(lambda v: v) if found is None else found.as_map()

    def preconditioner(self, x: Tensor) -> Preconditioner | None:
        """From the stencils of both terms."""
        with torch.no_grad():
            data = self._energy.fidelity.stencils(x, self.y)
            own = self._energy.regulariser.stencils(x)
            scaled = None if own is None else [part.times(self._wide(x)) for part in own]
            parts = joined([data, scaled])
        self.cost.operator_applications += 2 * len(x)
        return None if parts is None else Preconditioner.of(parts, x)

    def rounding(self, x: Tensor) -> Tensor:
        """The allowances of both terms, (b,)."""
        data, own = (term.rounding(x) for term in self._terms)
        return data + self.weight * own

    def cross_vjp(self, x: Tensor, q: Tensor) -> Theta:
        """w ⟨q, ∇R(x)⟩ row by row: row k of x depends on the weight of row k alone."""
        return {"log_weight": self.weight * rows.inner(q, self.penalty_grad(x)).double()}

    def theta_grad(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Theta]:
        """J(x) and ``weight`` w R(x), row by row."""
        data, own = self.fidelity(x), self.weight * self.penalty(x).double()
        return data + own.to(data), {"log_weight": weight.double() * own}

    def with_data(self) -> NoReturn:
        """Refused."""
        raise InputError("weights of rows are differentiated by the weights alone")

    def taped(self, theta: Theta) -> NoReturn:
        """Refused."""
        raise InputError("weights of rows are differentiated implicitly, not on a tape")

    def variation(self, x: Tensor, q: Tensor, radius: Tensor) -> Variation:
        """Unknown: nothing is claimed about derivatives by w."""
        return Variation.unknown(x)

    def double(self) -> RowWeighted:
        """The same in float64."""
        data, penalty = (term.double() for term in self._terms)
        return self._made(in_double(self._energy, self.y.double()), data, penalty, self.weight)

    def rows(self, index: Tensor) -> RowWeighted:
        """Those rows with their weights."""
        data, penalty = (term.rows(index) for term in self._terms)
        return self._made(self._energy, data, penalty, self.weight[index])

    def over(self, base: SmoothObjective) -> SmoothObjective:
        """``base`` itself."""
        return base

    @staticmethod
    def _made(
        energy: Variational, data: EnergyObjective, penalty: EnergyObjective, weight: Tensor
    ) -> RowWeighted:
        made = object.__new__(RowWeighted)
        made._energy, made._terms, made.weight = energy, (data, penalty), weight
        return made

    def _wide(self, x: Tensor) -> Tensor:
        return rows.expand(self.weight.to(x), x)


def _after(second: LinearMap, first: LinearMap) -> LinearMap:
    return LinearMap(
        lambda v: second(first(v)),
        lambda index: _after(second.rows(index), first.rows(index)),
    )
