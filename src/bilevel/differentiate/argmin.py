"""A differentiable layer: y, θ -> argmin_x J_θ(x; y), for any PyTorch training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bilevel.differentiate.implicit import solve_adjoint
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.theta import Theta, bind
from bilevel.model.composite import CompositeObjective, Separable
from bilevel.model.energy import Energy
from bilevel.model.objective import Objective
from bilevel.model.saddle import SaddleObjective
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
    of the energy that requires a gradient and to y. Memory is that of one image, whatever the
    number of steps. Under ``torch.autocast`` the layer computes in the energy's own precision and
    takes ``y`` in any: certificates of bfloat16 would prove nothing.

    Args:
        energy: its parameters may be leaves or not.
        y: data (b, ...); may depend on other parameters.
        tol: accuracy of the forward pass.
        theta: values to use instead of some of the energy's parameters, e.g. a network's output.
        solver: Nesterov, FISTA for a composite energy, if None.
        x0: start of the solver.
        max_steps: limit of the solver.
        adjoint_rtol: accuracy of the backward pass.
        linear: "cg", or "minres" for non-convex energies.

    Raises:
        InputError: ``y`` or ``x0`` do not fit the energy, or an energy with dual terms.
        NotCertified: the forward or the backward pass did not reach its accuracy.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> x = bl.argmin(energy, torch.ones(1, 1, 2, 2), tol=bl.Tolerance(rms=1e-6))
        >>> x.sum().backward()
        >>> round(energy.regulariser.log_weight.grad.item(), 4)
        -1.0
    """
    model = energy if theta is None else bind(energy, theta)
    data = _in_full_precision(y, model)
    with torch.autocast(y.device.type, enabled=False):
        objective = model.at(data.detach())
        if isinstance(objective, SaddleObjective):
            what = (
                "argmin differentiates smooth and composite energies, and this one has dual terms"
            )
            raise InputError(what, advice="smooth them, e.g. regularisers.TotalVariation")
        chosen: Solver[Any] = accelerated(objective) if solver is None else solver
        x = minimise(objective, chosen, x0, tol=tol, max_steps=max_steps).require().x
        learnable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        layer = _Layer(model, list(learnable), adjoint_rtol, linear)
        return _Argmin.apply(layer, x, data, *learnable.values())  # pyright: ignore


def _in_full_precision(y: Tensor, energy: Energy) -> Tensor:
    """Data that autocast has reduced, in the dtype of the energy; other data as they are."""
    dtypes = [p.dtype for p in energy.parameters()]
    return y.to(dtypes[0]) if torch.is_autocast_enabled(y.device.type) and dtypes else y


class _Layer:
    """What the backward pass needs besides tensors."""

    def __init__(self, energy: Energy, names: list[str], rtol: float, linear: str) -> None:
        self.energy, self.names, self.rtol, self.linear = energy, names, rtol, linear

    def backward(self, x: Tensor, y: Tensor, theta: list[Tensor], upstream: Tensor) -> list[Tensor]:
        """-Bᵀ H⁻¹ v for y and each θ, at the θ of the forward pass."""
        bound = bind(self.energy, dict(zip(self.names, theta, strict=True)))
        objective = bound.at(y)
        with torch.no_grad():
            hessian = objective.hessian(x)
            adjoint = solve_adjoint(self.linear, hessian, upstream, rtol=self.rtol)
        if not bool(adjoint.converged.all()):
            raise NotCertified(
                f"the backward pass of argmin reached residuals {adjoint.residual.tolist()}, not "
                f"{self.rtol} of the upstream gradient; use linear='minres', a looser "
                "adjoint_rtol or a better conditioned energy"
            )
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (y, *theta)]
            again = bind(self.energy, dict(zip(self.names, leaves[1:], strict=True)))
            product = _pairing(again, objective, x, leaves[0], adjoint.x, upstream)
            gradients = torch.autograd.grad(
                product, leaves, allow_unused=True, materialize_grads=True
            )
        return [-g for g in gradients]


def _pairing(
    energy: Energy, objective: Objective, x: Tensor, y: Tensor, q: Tensor, v: Tensor
) -> Tensor:
    """⟨q, ∇J(x)⟩, a function of y and θ; minus its derivatives are those of ⟨v, x(θ, y)⟩.

    Pixels that ‖x - c(y)‖₁ holds move with c: they add -⟨v - ∇²f q, c⟩.
    """
    if not (isinstance(objective, CompositeObjective) and isinstance(energy, Separable)):
        return (energy.grad(x, y) * q).sum()
    recorded = objective.recorded(energy, y)
    product, distance = recorded.pairing(x, q), recorded.simple.distance
    if distance is None or not distance.centre.requires_grad:
        return product
    free, _ = objective.simple.pieces(x)
    pull = v - objective.smooth.hessian(x)(torch.where(free, q, 0.0))
    return product - torch.where(x == distance.centre, pull * distance.centre, 0.0).sum()


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
