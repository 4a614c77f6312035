"""A differentiable layer: y, θ -> argmin_x J_θ(x; y), for any PyTorch training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from bilevel.differentiate.implicit import solve_adjoint
from bilevel.differentiate.saddle_adjoint import dual_of, solve_saddle_adjoint
from bilevel.ground.errors import NotCertified
from bilevel.ground.theta import Theta, bind
from bilevel.linear import LinearSolution
from bilevel.model.composite import CompositeObjective, Separable
from bilevel.model.cost import Cost
from bilevel.model.energy import Energy
from bilevel.model.objective import Objective
from bilevel.model.saddle import Dual, SaddleObjective
from bilevel.solve import Solver, Tolerance, minimise
from bilevel.solve.solvers import accelerated

__all__ = ["argmin"]


def argmin(
    energy: Energy,
    y: Tensor,
    *,
    tol: Tolerance,
    theta: Theta | None = None,
    solver: Solver[Any] | None = None,
    x0: Tensor | None = None,
    max_steps: int = 20_000,
    adjoint_rtol: float = 1e-4,
    linear: str = "cg",
) -> Tensor:
    """x(θ, y) = argmin_x J_θ(x; y), differentiable by implicit differentiation.

    The forward pass solves to ``tol`` without a tape; the backward pass solves H q = v for the
    upstream gradient v to relative residual ``adjoint_rtol`` and returns -Bᵀq to every parameter
    of the energy that requires a gradient and to y; with dual terms the system is that of
    :class:`~bilevel.differentiate.Piggyback`. Memory is that of one image, whatever the
    number of steps. Under ``torch.autocast`` the layer computes in the energy's own precision and
    takes ``y`` in any: certificates of bfloat16 would prove nothing.

    Args:
        energy: its parameters may be leaves or not.
        y: data (b, ...); may depend on other parameters.
        tol: accuracy of the forward pass.
        theta: values to use instead of some of the energy's parameters, e.g. a network's output.
        solver: if None, Nesterov, FISTA for a composite energy, PDHG for one with dual terms.
        x0: start of the solver.
        max_steps: limit of the solver.
        adjoint_rtol: accuracy of the backward pass.
        linear: "cg", or "minres" for non-convex energies; with dual terms always MINRES.

    Raises:
        InputError: ``y``, ``x0`` or the solver do not fit the energy.
        NotCertified: the forward or the backward pass did not reach its accuracy.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> x = bl.argmin(energy, torch.ones(1, 1, 2, 2), tol=bl.Tolerance(rms=1e-6))
        >>> x.sum().backward()
        >>> round(energy.regulariser.log_weight.grad.item(), 4)
        -1.0
    """
    data = _in_full_precision(y, energy)
    energy.settle(data.detach())
    model = energy if theta is None else bind(energy, theta)
    with torch.autocast(y.device.type, enabled=False):
        objective = model.at(data.detach())
        chosen: Solver[Any] = accelerated(objective) if solver is None else solver
        saddle = isinstance(objective, SaddleObjective)
        found = minimise(objective, chosen, x0, tol=tol, max_steps=max_steps, keep_state=saddle)
        dual = dual_of(found, "argmin") if saddle else None
        x = found.require().x
        learnable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        layer = _Layer(model, list(learnable), adjoint_rtol, linear, dual)
        return _Argmin.apply(layer, x, data, *learnable.values())  # pyright: ignore


def _in_full_precision(y: Tensor, energy: Energy) -> Tensor:
    """Data that autocast has reduced, in the dtype of the energy; other data as they are."""
    dtypes = [p.dtype for p in energy.parameters()]
    return y.to(dtypes[0]) if torch.is_autocast_enabled(y.device.type) and dtypes else y


class _Layer:
    """What the backward pass needs besides tensors; ``dual`` goes with x in a saddle problem."""

    def __init__(
        self, energy: Energy, names: list[str], rtol: float, linear: str, dual: Dual | None
    ) -> None:
        self.energy, self.names, self.rtol, self.linear = energy, names, rtol, linear
        self.dual = dual

    def backward(self, x: Tensor, y: Tensor, theta: list[Tensor], upstream: Tensor) -> list[Tensor]:
        """The derivatives of ⟨v, x(θ, y)⟩ for y and each θ, at the θ of the forward pass."""
        objective = self._bound(theta).at(y)
        with torch.no_grad():
            adjoint, pairing = self._adjoint(objective, x, upstream)
        if not bool(adjoint.converged.all()):
            raise NotCertified(
                f"the backward pass of argmin reached residuals {adjoint.residual.tolist()}, not "
                f"{self.rtol} of the upstream gradient; use linear='minres', a looser "
                "adjoint_rtol or a better conditioned energy"
            )
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (y, *theta)]
            product = pairing(self._bound(leaves[1:]), leaves[0])
            gradients = torch.autograd.grad(
                product, leaves, allow_unused=True, materialize_grads=True
            )
        return list(gradients)

    def _bound(self, theta: list[Tensor]) -> Energy:
        return bind(self.energy, dict(zip(self.names, theta, strict=True)))

    def _adjoint(
        self, objective: Objective, x: Tensor, v: Tensor
    ) -> tuple[LinearSolution, Callable[[Energy, Tensor], Tensor]]:
        """The adjoint, and a function of energy and y with the derivatives of ⟨v, x(θ, y)⟩."""
        if isinstance(objective, SaddleObjective) and self.dual is not None:
            found = solve_saddle_adjoint(objective, x, self.dual, v, rtol=self.rtol)
            return found.linear, lambda energy, y: found.pairing(_split(energy, y))
        hessian = objective.hessian(x)
        q = solve_adjoint(self.linear, hessian, v, rtol=self.rtol)
        if isinstance(objective, CompositeObjective):
            return q, lambda energy, y: _held_and_free(energy, objective, x, y, q.x, v)
        return q, lambda energy, y: -(energy.grad(x, y) * q.x).sum()


def _held_and_free(
    energy: Energy, objective: CompositeObjective, x: Tensor, y: Tensor, q: Tensor, v: Tensor
) -> Tensor:
    """-⟨q, ∇J(x)⟩ in the free pixels; those that ‖x - c(y)‖₁ holds move with c."""
    recorded = objective.recorded(_separable(energy), y)
    product, distance = -recorded.pairing(x, q), recorded.simple.distance
    if distance is None or not distance.centre.requires_grad:
        return product
    free, _ = objective.simple.pieces(x)
    pull = v - objective.smooth.hessian(x)(torch.where(free, q, 0.0))
    return product + torch.where(x == distance.centre, pull * distance.centre, 0.0).sum()


def _split(energy: Energy, y: Tensor) -> SaddleObjective:
    return cast(SaddleObjective, _separable(energy).split(y, Cost(), tape=True))


def _separable(energy: Energy) -> Separable:
    return cast(Separable, energy)


class _Argmin(torch.autograd.Function):
    """Hands x on; backward by :class:`_Layer`."""

    @staticmethod
    def forward(ctx: Any, layer: _Layer, x: Tensor, y: Tensor, *theta: Tensor) -> Tensor:
        """The solution, already computed."""
        ctx.layer = layer
        ctx.save_for_backward(x, y, *theta)
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *upstream: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of y and θ."""
        x, y, *theta = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            gradients = ctx.layer.backward(x, y, theta, upstream[0])
        return (None, None, *gradients)
