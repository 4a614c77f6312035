"""What learning returns: θ, how it was found, and the means to use it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevel.ground.checks import check_images, check_positive
from bilevel.ground.errors import BilevelWarning, InputError, nearest
from bilevel.ground.theta import Theta
from bilevel.ground.typed import made
from bilevel.learn import checkpoint
from bilevel.learn.algorithm import Status
from bilevel.learn.reconstruction import Reconstruction, tolerance_of
from bilevel.learn.record import Record
from bilevel.learn.snapshot import Snapshot
from bilevel.model import Cost, Energy, Objective
from bilevel.model.losses import SquaredError
from bilevel.solve import Solution, Tolerance, minimise
from bilevel.solve.solvers import accelerated

__all__ = ["Fit", "load"]


@dataclass(frozen=True, repr=False)
class Fit:
    """A learned energy. ``configuration`` is free for whoever made the fit (plain data).

    ``snapshot`` is what ``learn(..., resume=fit)`` goes on from.
    """

    energy: Energy
    theta: Theta
    history: tuple[Record, ...]
    status: Status
    cost: Cost
    unit: str = SquaredError.unit
    """Of the loss."""
    configuration: Mapping[str, Any] = field(default_factory=dict[str, Any])
    source: str = ""
    """The text that the configuration was read from."""
    algorithm: str = ""
    """What learned it, in words."""
    contrast: float | None = None
    """Of the images that the energy sees behind the data of the first sample [grey value].

    None if nothing was learned from images.
    """
    snapshot: Snapshot | None = field(default=None, repr=False)
    example: Tensor | None = field(default=None, repr=False)
    """Data of one sample, (1, ...), at which :meth:`save` compares gradients; not saved."""

    @staticmethod
    def of(
        energy: Energy,
        theta: Theta,
        history: list[Record],
        status: Status,
        cost: Cost,
        unit: str,
    ) -> Fit:
        """Copies the energy and writes θ into the copy."""
        learned = copy.deepcopy(energy)
        parameters = dict(learned.named_parameters())
        with torch.no_grad():
            for name, value in theta.items():
                parameters[name].copy_(value)
        return Fit(learned, theta, tuple(history), status, cost, unit)

    def __repr__(self) -> str:
        """In a few lines: how it ended, what it gained and cost, and θ where it is short."""
        steps = max(len(self.history) - 1, 0)
        lines = [f"Fit: {self.status.name} after {steps} steps ({self.reason})"]
        if self.algorithm:
            lines.append(f"algorithm: {self.algorithm}")
        if self.history:
            first, last = self.history[0].corrected, self.history[-1].corrected
            lines.append(f"loss: {first:.6g} -> {last:.6g} {self.unit}".rstrip())
        cost = self.cost
        spent = f"{cost.gradient_evaluations} gradients, {cost.hvps} Hessian-vector products"
        lines.append(f"cost: {spent}, {cost.seconds:.1f} s")
        shown = [_shown(name, value) for name, value in list(self.theta.items())[:_SHOWN]]
        more = len(self.theta) - len(shown)
        lines.append(f"theta: {', '.join(shown)}{f', and {more} more' if more else ''}")
        return "\n  ".join(lines)

    @property
    def reason(self) -> str:
        """Why learning ended, in words."""
        return self.status.value

    def reconstruct(
        self, y: Tensor, tol: Tolerance | None = None, *, max_steps: int = 20_000
    ) -> Solution:
        """Reconstruct from data ``y`` (b, ...), to a thousandth of their contrast unless ``tol``.

        By the solver that :func:`~bilevel.solve.solvers.accelerated` chooses.
        Where the energy proves no strong convexity of use, the rms of ∇J is brought to a hundredth
        of that.

        Raises:
            InputError: ``y`` does not fit the energy.

        Warns:
            BilevelWarning: images of another scale than those learned from; see :meth:`doubts`.
        """
        objective = self.energy.at(check_images(y, "y"))
        if (doubts := self.doubts(y)) is not None:
            warnings.warn(doubts, BilevelWarning, stacklevel=2)
        if tol is None:
            tol = self.tolerance(objective, y)
        return minimise(objective, accelerated(objective), tol=tol, max_steps=max_steps)

    def tolerance(
        self, objective: Objective, y: Tensor, accuracy: float | None = None
    ) -> Tolerance:
        """For reconstructions from ``y`` to rms ``accuracy``, a thousandth of the contrast if None.

        The contrast is that of the images behind ``y``.
        """
        return tolerance_of(self.energy, objective, y, accuracy)

    def doubts(self, y: Tensor) -> str | None:
        """What speaks against using what was learned on data ``y``, in words; None if nothing.

        Weights and smoothing are for grey values of one unit: images of ten times or a tenth of the
        contrast of those learned from are in another one; flat images of the same brightness are
        not. The first row is looked at.

        Raises:
            InputError: ``y`` does not fit the energy.
        """
        there = self.contrast
        if there is None or not bool(y[:1].any()):
            return None
        here = self.energy.contrast(y[:1])
        size = float(self.energy.start(y[:1]).detach().abs().max())
        if here <= there * FAR and max(here, size) >= there / FAR:
            return None
        return (
            f"these images have a contrast of {here:.3g}, those that the fit was learned from of "
            f"{there:.3g}: bring the data to that scale, or learn from such"
        )

    def module(self, accuracy: float | None = None, max_steps: int = 20_000) -> Reconstruction:
        """The learned energy as a layer for other models, y -> x; a copy.

        Example:
            >>> import bilevel as bl
            >>> x = torch.rand(1, 1, 8, 8)
            >>> energy = bl.Variational(bl.fidelities.SquaredL2(), bl.regularisers.Tikhonov(1.0))
            >>> problem = bl.BilevelProblem(
            ...     energy, bl.losses.SquaredError(), bl.data.Pairs(x, x, ("one",))
            ... )
            >>> layer = bl.learn(problem, budget=bl.Budget(steps=1)).module()
            >>> torch.nn.Sequential(torch.nn.Identity(), layer)(x).shape
            torch.Size([1, 1, 8, 8])
        """
        return Reconstruction(copy.deepcopy(self.energy), accuracy, max_steps)

    def save(self, folder: str | Path, *, state: bool = True) -> Path:
        """Write ``fit.json`` and ``fit.safetensors`` into ``folder``, whole or not at all.

        Beside them ``state.safetensors``, to go on from; ``state=False`` leaves that as it is.
        It is checked before that what is written can be read again, as the same energy.

        Raises:
            InputError: no permission, an energy that cannot be described or would come back as
                another one, or a configuration that is no JSON; nothing is written.
        """
        checkpoint.check(self.energy, self.example)
        return self.write(folder, state=state)

    def write(self, folder: str | Path, *, state: bool = True) -> Path:
        """As :meth:`save`, without the check, for fits that follow one that was checked.

        Raises:
            InputError: the same.
        """
        about = {
            "status": self.status.name,
            "history": [r.to_json() for r in self.history],
            "cost": asdict(self.cost),
            "unit": self.unit,
            "algorithm": self.algorithm,
            "contrast": self.contrast,
            "configuration": dict(self.configuration),
            "source": self.source,
        }
        if state and self.snapshot is None:  # first, so that none of another fit stays
            checkpoint.write_state(Path(folder), None)
        checkpoint.write(Path(folder), self.energy, about)
        if state and self.snapshot is not None:
            checkpoint.write_state(Path(folder), self.snapshot)
        return Path(folder)


def load(folder: str | Path) -> Fit:
    """A fit saved by :meth:`Fit.save`, all of it checked.

    Raises:
        InputError: the folder holds no fit, or a damaged or foreign one.
    """
    folder = Path(folder)
    energy, about = checkpoint.read(folder)
    theta = {n: p.detach().clone() for n, p in energy.named_parameters() if p.requires_grad}
    parts = {k: v for k, v in about.items() if k not in ("format", "tensors", "energy")}
    try:
        plain = made(_Plain, parts, "the fit")
        fit = Fit(
            energy=energy,
            theta=theta,
            history=tuple(Record.from_json(r) for r in plain.history),
            status=_status(plain.status),
            cost=Cost.of(plain.cost),
            unit=plain.unit,
            configuration=plain.configuration,
            source=plain.source,
            algorithm=plain.algorithm,
            contrast=_contrast(plain.contrast),
        )
        snapshot = checkpoint.read_state(folder)
        if snapshot is None:
            return fit
        if not isinstance(snapshot, Snapshot):
            raise InputError("the state is none of a fit", given=type(snapshot).__name__)
        snapshot.check(fit.history)
    except InputError as error:
        raise checkpoint.damaged(folder, error) from error
    return replace(fit, snapshot=snapshot)


@dataclass(frozen=True)
class _Plain:
    """What ``fit.json`` says beside the energy."""

    status: str
    history: list[Any]
    cost: dict[str, Any]
    unit: str
    algorithm: str
    configuration: dict[str, Any]
    source: str
    contrast: float | None = None


def _contrast(value: float | None) -> float | None:
    return None if value is None else check_positive(value, "the contrast of a fit")


def _status(name: str) -> Status:
    if name not in Status.__members__:
        raise InputError(f"unknown status '{name}'", advice=nearest(name, Status.__members__))
    return Status[name]


FAR = 10.0
"""Times the contrast of the images learned from: those of one unit do not differ by as much."""

_SHOWN = 6
"""Parameters that ``print(fit)`` names."""


def _shown(name: str, value: Tensor) -> str:
    return f"{name} = {float(value):.4g}" if value.numel() == 1 else f"{name} {tuple(value.shape)}"
