"""A differentiable layer: y, θ -> argmin_x J_θ(x; y), for any PyTorch training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from bilevel.differentiate.automatic import automatic
from bilevel.differentiate.hypergradient import Hypergradient, UpperGradient
from bilevel.differentiate.implicit import Implicit
from bilevel.differentiate.piggyback import Piggyback
from bilevel.differentiate.upper import Upper
from bilevel.ground import rows
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.theta import Theta, bind
from bilevel.linear import LinearSolution
from bilevel.model.by_row import with_theta
from bilevel.model.energy import Energy
from bilevel.model.kinds import has_dual, required
from bilevel.model.losses import Loss
from bilevel.model.objective import DATA, Curved, Objective
from bilevel.solve import Solution, Solver, Tolerance, minimise
from bilevel.solve.solvers import accelerated

__all__ = ["argmin"]

_LOOSEST = 1e-4
_FINEST, _FINEST_OF_SADDLES = 1e-14, 1e-8


def argmin(
    energy: Energy,
    y: Tensor,
    *,
    tol: Tolerance,
    theta: Theta | None = None,
    solver: Solver[Any] | None = None,
    x0: Tensor | None = None,
    max_steps: int = 20_000,
    hypergradient: Hypergradient | None = None,
    adjoint_rtol: float | None = None,
) -> Tensor:
    """x(θ, y) = argmin_x J_θ(x; y), differentiable once by any hypergradient.

    Of a state with further channels the image is returned.

    The forward pass solves to ``tol`` without a tape; the backward pass gives the derivatives of
    ⟨v, x⟩, v the upstream gradient, by y and by every parameter of the energy that requires a
    gradient. Unless ``hypergradient`` says otherwise it solves H q = v, with dual terms the system
    of :class:`~bilevel.differentiate.Piggyback`. Memory is that of a few images, whatever the
    number of steps. What is written into the energy after the forward pass changes nothing.
    Under ``torch.autocast`` the layer computes in the energy's own precision and
    takes ``y`` in any: certificates of bfloat16 would prove nothing.

    Args:
        energy: its parameters may be leaves or not.
        y: data (b, ...); may depend on other parameters.
        tol: accuracy of the forward pass.
        theta: values to use instead of some of the energy's parameters, e.g. a network's output.
        solver: if None, Nesterov, FISTA for a composite energy, PDHG for one with dual terms.
        x0: start of the solver.
        max_steps: limit of the solver, and of the adjoint's unless ``hypergradient`` is given.
        hypergradient: the backward pass, e.g. ``Implicit("minres")``; those that approximate by
            design are taken at their word.
        adjoint_rtol: relative residual of adjoint systems; None: as accurate as x is certified
            to be relative to its own rms, at most 1e-4.

    Raises:
        InputError: ``y``, ``x0``, the solver or the hypergradient do not fit the energy.
        NotCertified: the forward or the backward pass did not reach its accuracy.

    Example:
        >>> import bilevel as bl
        >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
        >>> x = bl.argmin(energy, torch.ones(1, 1, 2, 2), tol=bl.Tolerance(rms=1e-6))
        >>> x.sum().backward()
        >>> round(energy.regulariser.log_weight.grad.item(), 4)
        -1.0
    """
    for name, value in (theta or {}).items():
        if not isinstance(cast(object, value), torch.Tensor):
            what = f"theta['{name}'] must be a tensor"
            raise InputError(what, given=repr(value), advice="e.g. torch.tensor(...)")
    data = _in_full_precision(y, energy)
    own = {name: _in_full_precision(value, energy) for name, value in (theta or {}).items()}
    for value in (*own.values(), *energy.parameters()):
        if forward_ad.unpack_dual(value).tangent is not None:
            _refuse_forward_mode()
    model = with_theta(energy, own, data)
    learnable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    layer = _Layer(model, tuple(learnable), tol, solver, x0, max_steps, hypergradient, adjoint_rtol)
    x, _ = _Argmin.apply(layer, data, *learnable.values())  # pyright: ignore
    return cast(Tensor, x)


def _refuse_forward_mode() -> NoReturn:
    what = "argmin has derivatives in reverse mode alone, and forward mode was asked for"
    raise InputError(what, advice="use torch.func.grad, torch.func.vjp or backward()")


def _in_full_precision(y: Tensor, energy: Energy) -> Tensor:
    """Data that autocast has reduced, in the dtype of the energy; other data as they are."""
    dtypes = [p.dtype for p in energy.parameters()]
    return y.to(dtypes[0]) if torch.is_autocast_enabled(y.device.type) and dtypes else y


@dataclass(frozen=True)
class _Pass:
    """What a forward pass leaves for the backward pass."""

    objective: Objective
    solution: Solution
    method: Hypergradient


@dataclass(frozen=True)
class _Layer:
    """The energy and how to solve it, forward and backward."""

    energy: Energy
    names: tuple[str, ...]
    tol: Tolerance
    solver: Solver[Any] | None
    x0: Tensor | None
    max_steps: int
    hypergradient: Hypergradient | None
    adjoint_rtol: float | None

    def forward(self, y: Tensor, theta: tuple[Tensor, ...]) -> _Pass:
        """The solution with all that it depends on, kept apart from what others may write into."""
        own = {name: t.detach().requires_grad_() for name, t in zip(self.names, theta, strict=True)}
        objective = bind(self.energy, own).at(y)
        solver: Solver[Any] = accelerated(objective) if self.solver is None else self.solver
        method = self._method(objective)
        found = minimise(
            objective,
            solver,
            self.x0,
            tol=self.tol,
            max_steps=self.max_steps,
            keep_state=method.needs_state,
        )
        return _Pass(objective, found.require(), method)

    def _method(self, objective: Objective) -> Hypergradient:
        if self.hypergradient is not None:
            return self.hypergradient
        found = automatic(objective)
        return Implicit(max_steps=self.max_steps) if isinstance(found, Implicit) else found

    def backward(self, kept: _Pass, v: Tensor, by_data: bool) -> Theta:
        """The derivatives of ⟨v, x(θ, y)⟩ by θ, and by y if wanted."""
        lower = kept.objective.with_data() if by_data else kept.objective
        rtol = _rtol(lower, kept.solution) if self.adjoint_rtol is None else self.adjoint_rtol
        found = kept.method(lower, Upper(_Pull(), v), kept.solution, rtol=rtol)
        exact = isinstance(kept.method, Implicit | Piggyback) or self.adjoint_rtol is not None
        _check_solved(lower, kept.solution.x, found, rtol, exact=exact)
        return {name: len(v) * value for name, value in found.grad.items()}


def _rtol(lower: Objective, solution: Solution) -> float:
    """How far x may be off, relative to its own rms, in the row that is known best."""
    reached = solution.certificate
    off = torch.where(torch.isfinite(reached.rms), reached.rms, reached.residual)
    size = rows.rms(solution.x).double().clamp_min(1e-300)
    finest = _FINEST_OF_SADDLES if has_dual(lower) else _FINEST
    return float((off / size).clamp(finest, _LOOSEST).min())


def _check_solved(
    lower: Objective, x: Tensor, found: UpperGradient, rtol: float, *, exact: bool
) -> None:
    """Raise NotCertified for adjoints that broke down, or did not meet ``rtol`` or rounding.

    The latter only of methods that are ``exact``: the others approximate by design.
    """
    adjoint, lost = found.linear, found.unsolved
    if adjoint is not None and exact:
        lost = lost | ~(adjoint.converged | _at_floor(lower, x, adjoint))
    if bool(lost.any()):
        reached = "" if adjoint is None else f" reached residuals {adjoint.residual.tolist()} and"
        raise NotCertified(
            f"the backward pass of argmin{reached} did not solve {int(lost.sum())} of {len(lost)} "
            f"adjoint systems to {rtol:.1e} of the upstream gradient; use "
            "hypergradient=Implicit('minres'), a looser adjoint_rtol or a better conditioned energy"
        )


def _at_floor(lower: Objective, x: Tensor, adjoint: LinearSolution) -> Tensor:
    """Rows whose residual is what rounding of one product with the Hessian makes, (b,) bool."""
    if has_dual(lower) or bool(adjoint.converged.all()):
        return adjoint.converged
    size = rows.length(adjoint.x)
    curved = required(lower, Curved, "the rounding of an adjoint")
    product = rows.length(curved.hessian(x)(adjoint.x))
    lipschitz = lower.bounds.lipschitz
    product = torch.where(torch.isfinite(lipschitz), lipschitz * size, product)
    return adjoint.residual.double() <= 8 * torch.finfo(x.dtype).eps * product


class _Pull(Loss):
    """⟨v, x⟩, v in the place of the target."""

    def value(self, x: Tensor, target: Tensor) -> Tensor:
        """⟨v, x⟩, (b,)."""
        return (x * target).flatten(1).sum(1)

    def grad(self, x: Tensor, target: Tensor) -> Tensor:
        """V, as a function of x."""
        return target + 0 * x

    def lipschitz(self, x: Tensor, target: Tensor, radius: Tensor) -> Tensor:
        """0."""
        del x, target
        return torch.zeros_like(radius, dtype=torch.float64)


class _Argmin(torch.autograd.Function):
    """Forward and backward by :class:`_Layer`."""

    @staticmethod
    def forward(layer: _Layer, y: Tensor, *theta: Tensor) -> tuple[Tensor, _Pass]:  # pyright: ignore
        """The solution, and what it leaves for the backward pass."""
        with torch.autocast(y.device.type, enabled=False):
            kept = layer.forward(y, theta)
        return kept.objective.image(kept.solution.x).clone(), kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep the pass, and the tensors for who asks for second derivatives."""
        ctx.layer, ctx.kept = inputs[0], output[1]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        """Gradients of y and θ."""
        by_data = bool(ctx.needs_input_grad[1])
        apply = cast(Callable[..., tuple[Tensor | None, ...]], _Backward.apply)
        return None, *apply(ctx.layer, ctx.kept, by_data, upstream[0], *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        """What torch.func.jvp, jacfwd and hessian ask for."""
        del ctx, tangents
        _refuse_forward_mode()

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> NoReturn:
        """What torch.func.vmap asks for."""
        del info, in_dims, args
        what = "argmin solves whole batches and cannot be mapped over by torch.func"
        raise InputError(what, advice="stack the images along the batch, as (b, c, h, w)")


class _Backward(torch.autograd.Function):
    """The backward pass as a function of its own, so that torch.func leaves its tensors alone."""

    @staticmethod
    def forward(  # pyright: ignore
        layer: _Layer, kept: _Pass, by_data: bool, v: Tensor, *inputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of y, None unless wanted, and θ."""
        del inputs
        tangents = forward_ad._set_fwd_grad_enabled(True)  # pyright: ignore[reportPrivateUsage]
        with tangents, torch.autocast(v.device.type, enabled=False):  # functions switch them off
            found = layer.backward(kept, v, by_data)
        return found.get(DATA), *(found[name] for name in layer.names)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> NoReturn:  # pyright: ignore
        """What a second derivative asks for."""
        del ctx, upstream
        what = "argmin can be differentiated once, and a second derivative was asked for"
        raise InputError(what, advice="leave out create_graph=True, or differences of gradients")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> NoReturn:
        """What torch.func.hessian asks for."""
        return _Backward.backward(ctx, *tangents)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> NoReturn:
        """What torch.func.jacrev and hessian ask for."""
        return _Argmin.vmap(info, in_dims, *args)
