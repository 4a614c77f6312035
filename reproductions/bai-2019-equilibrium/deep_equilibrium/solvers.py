"""Fixed points z = f(z) of batches, one independent problem a row: Picard, Anderson, Broyden."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from bilevel.ground.checks import check_nonnegative, check_positive
from bilevel.ground.errors import InputError, NotCertified
from bilevel.ground.rows import norm, take

__all__ = [
    "Anderson",
    "Broyden",
    "FixedPointSolution",
    "Method",
    "Picard",
    "Status",
    "solve_fixed_point",
]

Map = Callable[[Tensor, Tensor], Tensor]


class Status(IntEnum):
    """How the solve of one row ended; only ``CONVERGED`` meets its tolerance."""

    CONVERGED = 1
    MAX_STEPS = 2
    DIVERGED = 3


@dataclass(frozen=True)
class FixedPointSolution:
    """What was found for each of b rows, and what is known about it.

    Attributes:
        z: (b, ...), the point of least residual that was met.
        residual: (b,) ``‖f(z) - z‖₂`` at the returned ``z``; inf if f was not finite at the start.
        steps: (b,) integers, steps taken.
        status: (b,) integers, values of :class:`Status`.
        evaluations: how often f was evaluated, summed over rows.
    """

    z: Tensor
    residual: Tensor
    steps: Tensor
    status: Tensor
    evaluations: int

    @property
    def converged(self) -> Tensor:
        """(b,) booleans: the residual meets the tolerance."""
        return self.status == Status.CONVERGED

    def require(self) -> FixedPointSolution:
        """This solution, if every row converged.

        Raises:
            NotCertified: names the first rows that did not, their residuals and what to do.
        """
        failed = torch.nonzero(~self.converged).flatten().tolist()
        if not failed:
            return self
        named = "; ".join(
            f"row {k}: {Status(int(self.status[k])).name}, residual {float(self.residual[k]):.3g}"
            for k in failed[:5]
        )
        raise NotCertified(
            f"{len(failed)} of {len(self.status)} fixed points are not found ({named}); "
            "raise max_steps or the tolerance, or make f a contraction"
        )


class State:
    """What a method remembers, row by row; every tensor has the row as its first dimension."""


class Method(ABC):
    """How the next point follows from z and g = f(z) - z."""

    @abstractmethod
    def init(self, z: Tensor) -> State:
        """The memory before the first step."""

    @abstractmethod
    def step(self, state: State, z: Tensor, g: Tensor) -> tuple[State, Tensor]:
        """The memory after a step, and the next point: (b, n), (b, n) -> (b, n)."""


class _Nothing(State):
    pass


@dataclass(frozen=True)
class Picard(Method):
    """z ← f(z)."""

    def init(self, z: Tensor) -> State:
        """Nothing."""
        return _Nothing()

    def step(self, state: State, z: Tensor, g: Tensor) -> tuple[State, Tensor]:
        """One application."""
        return state, z + g


@dataclass(frozen=True)
class _Differences(State):
    """The last differences of z and g, (b, m, n), in a ring; ``count`` were ever written."""

    z: Tensor
    g: Tensor
    last_z: Tensor
    last_g: Tensor
    count: int


@dataclass(frozen=True)
class Anderson(Method):
    """Anderson's acceleration of type II with limited memory.

    γ minimises ‖g - ΔG γ‖² + ridge ‖D γ‖² with D the norms of the columns of ΔG, in float64;
    then z ← z + mixing g - (ΔZ + mixing ΔG) γ.

    Source: Walker & Ni (2011), Anderson acceleration for fixed-point iterations, eq. (2.2) and
    section 4; for equilibrium models Bai, Koltun & Kolter (2021), arXiv 2106.14342.

    Args:
        memory: differences that are kept.
        mixing: how much of g is added, 0 < mixing <= 1.
        ridge: relative regularisation of the least squares.

    Raises:
        InputError: an option out of its range.
    """

    memory: int = 5
    mixing: float = 1.0
    ridge: float = 1e-10

    def __post_init__(self) -> None:
        """Check the options."""
        _check_memory(self.memory)
        check_nonnegative(self.ridge, "ridge")
        if check_positive(self.mixing, "mixing") > 1:
            raise InputError("mixing must be at most 1", given=self.mixing)

    def init(self, z: Tensor) -> State:
        """No differences yet."""
        ring = z.new_zeros(len(z), self.memory, z.shape[1])
        return _Differences(ring, ring.clone(), z, z, -1)

    def step(self, state: State, z: Tensor, g: Tensor) -> tuple[State, Tensor]:
        """One least-squares problem a row."""
        assert isinstance(state, _Differences)
        if state.count >= 0:
            slot = state.count % self.memory
            state.z[:, slot] = z - state.last_z
            state.g[:, slot] = g - state.last_g
        state = replace(state, last_z=z, last_g=g, count=state.count + 1)
        used = min(state.count, self.memory)
        forward = z + self.mixing * g
        if used == 0:
            return state, forward
        dz, dg = state.z[:, :used], state.g[:, :used]
        size = torch.linalg.vector_norm(dg, dim=2).double()
        size = torch.where(size > 0, size, 1)
        unit = dg.double() / size[..., None]
        gram = unit @ unit.transpose(1, 2)
        gram.diagonal(dim1=1, dim2=2).add_(self.ridge + torch.finfo(torch.float64).eps)
        gram.diagonal(dim1=1, dim2=2).add_((gram.diagonal(dim1=1, dim2=2) < 0.5).to(gram))
        gamma = torch.linalg.solve_ex(gram, unit @ g.double()[..., None])[0][..., 0] / size
        back = dz + self.mixing * dg
        return state, forward - (gamma.to(z)[..., None] * back).sum(1)


@dataclass(frozen=True)
class _Inverse(State):
    """B = -I + Σ_i u_i v_iᵀ, near the inverse of the Jacobian of g; (b, m, n) each."""

    u: Tensor
    v: Tensor
    last_z: Tensor
    last_g: Tensor
    count: int


@dataclass(frozen=True)
class Broyden(Method):
    """Broyden's good method for g(z) = f(z) - z = 0, with an inverse of low rank.

    It starts from B = -I, a step of Picard, and forgets all when ``memory`` updates are used up.
    An update whose denominator vanishes to rounding is left out.

    Source: Broyden (1965), eq. (4.10), the inverse by Sherman & Morrison; for equilibrium models
    Bai, Kolter & Koltun (2019), arXiv 1909.01377, section 3.1.3.

    Args:
        memory: updates that are kept.

    Raises:
        InputError: no memory.
    """

    memory: int = 20

    def __post_init__(self) -> None:
        """Check the options."""
        _check_memory(self.memory)

    def init(self, z: Tensor) -> State:
        """B = -I."""
        zero = z.new_zeros(len(z), self.memory, z.shape[1])
        return _Inverse(zero, zero.clone(), z, z, -1)

    def step(self, state: State, z: Tensor, g: Tensor) -> tuple[State, Tensor]:
        """One update of rank one and one product with B."""
        assert isinstance(state, _Inverse)
        count = state.count
        if count >= self.memory:
            count = -1
        if count >= 0:
            u, v = state.u[:, :count], state.v[:, :count]
            dz, dg = z - state.last_z, g - state.last_g
            row = -dz + ((u * dz[:, None]).sum(2, keepdim=True) * v).sum(1)
            image = _apply(u, v, dg)
            bottom = (row * dg).sum(1)
            tiny = bottom.abs() <= torch.finfo(z.dtype).eps * norm(row) * norm(dg)
            weight = torch.where(tiny, 0, 1 / torch.where(tiny, 1, bottom))
            state.u[:, count] = (dz - image) * weight[:, None]
            state.v[:, count] = row
        count += 1
        state = replace(state, last_z=z, last_g=g, count=count)
        return state, z - _apply(state.u[:, :count], state.v[:, :count], g)


def _apply(u: Tensor, v: Tensor, g: Tensor) -> Tensor:
    return -g + ((v * g[:, None]).sum(2, keepdim=True) * u).sum(1)


def _check_memory(memory: int) -> None:
    if memory < 1:
        raise InputError("memory must hold at least one vector", given=memory)


def solve_fixed_point(
    f: Map,
    start: Tensor,
    method: Method,
    *,
    rtol: float = 0.0,
    atol: float | Tensor = 0.0,
    max_steps: int = 100,
) -> FixedPointSolution:
    """Find z = f(z) in each row; rows that are done leave the batch.

    Row k is done when ``‖f(z_k) - z_k‖₂ <= max(rtol ‖f(z_k)‖₂, atol_k)``, at the z_k that is
    returned. A row that becomes infinite or NaN is DIVERGED. No tape is kept.

    Args:
        f: (b', ...) and the original numbers (b',) of these rows -> (b', ...).
        start: (b, ...) the first points.
        method: how to go on.
        rtol: relative tolerance [1].
        atol: absolute tolerance in the unit of z, one number or (b,).
        max_steps: most steps a row takes, one evaluation each after the first.

    Raises:
        InputError: tolerances, steps, or the shape of f(z) do not fit.

    Example:
        >>> solve_fixed_point(lambda z, rows: z.cos(), torch.zeros(1, 1), Anderson(), rtol=1e-5).z
        tensor([[0.7391]])
    """
    check_nonnegative(rtol, "rtol")
    if max_steps < 0:
        raise InputError("max_steps must not be negative", given=max_steps)
    b = len(start)
    limit = torch.as_tensor(atol, dtype=start.dtype, device=start.device).expand(b)
    if not bool((limit >= 0).all()):
        raise InputError("atol must not be negative", given=atol)
    with torch.no_grad():
        return _solve(f, start.detach(), method, rtol, limit, max_steps)


def _solve(
    f: Map, start: Tensor, method: Method, rtol: float, atol: Tensor, max_steps: int
) -> FixedPointSolution:
    best = start.clone()
    residual = atol.new_full((len(start),), torch.inf)
    steps = torch.zeros(len(start), dtype=torch.long, device=start.device)
    status = torch.full_like(steps, Status.MAX_STEPS)
    rows, z = torch.arange(len(start), device=start.device), start
    state, evaluations = method.init(z.flatten(1)), 0
    for t in range(max_steps + 1):
        image = f(z, rows)
        if image.shape != z.shape:
            raise InputError(f"f must keep the shape {tuple(z.shape)}", given=tuple(image.shape))
        evaluations += len(rows)
        steps[rows] = t
        g = image - z
        size = norm(g)
        finite = torch.isfinite(size)
        better = finite & (size < residual[rows])
        best[rows[better]], residual[rows[better]] = z[better], size[better]
        done = finite & (size <= torch.maximum(rtol * norm(image), atol[rows]))
        best[rows[done]], residual[rows[done]] = z[done], size[done]
        status[rows[done]] = Status.CONVERGED
        status[rows[~finite]] = Status.DIVERGED
        stay = torch.nonzero(finite & ~done).flatten()
        if len(stay) < len(rows):
            rows, z, g, state = take((rows, z, g, state), stay)
        if t == max_steps or len(rows) == 0:
            break
        state, following = method.step(state, z.flatten(1), g.flatten(1))
        z = following.view_as(z)
    return FixedPointSolution(best, residual, steps, status, evaluations)
