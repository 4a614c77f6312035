"""What learning returns: θ, how it was found, and the means to use it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilevel.ground.checks import check_images
from bilevel.ground.theta import Theta
from bilevel.learn import checkpoint
from bilevel.learn.algorithm import Status
from bilevel.learn.record import Record
from bilevel.learn.snapshot import Snapshot
from bilevel.model import Cost, Energy, Objective
from bilevel.model.losses import SquaredError
from bilevel.solve import Solution, Tolerance, minimise
from bilevel.solve.policy import RECONSTRUCTING, USUAL
from bilevel.solve.solvers import accelerated

__all__ = ["Fit", "load"]


@dataclass(frozen=True)
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
    algorithm: str = ""
    """What learned it, in words."""
    snapshot: Snapshot | None = field(default=None, repr=False)

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
        """
        objective = self.energy.at(check_images(y, "y"))
        if tol is None:
            tol = self.tolerance(objective, y)
        return minimise(objective, accelerated(objective), tol=tol, max_steps=max_steps)

    def tolerance(
        self, objective: Objective, y: Tensor, accuracy: float | None = None
    ) -> Tolerance:
        """For reconstructions from ``y`` to rms ``accuracy``, a thousandth of the contrast if None.

        The contrast is that of the images behind ``y``.
        """
        contrast = self.energy.contrast(y)
        rms = USUAL * contrast if accuracy is None else accuracy
        stiffness = self.energy.stiffness(contrast)
        return RECONSTRUCTING.tolerance(objective, rms, dtype=y.dtype, stiffness=stiffness)

    def save(self, folder: str | Path, *, state: bool = True) -> Path:
        """Write ``fit.json`` and ``fit.safetensors`` into ``folder``, whole or not at all.

        Beside them ``state.safetensors``, to go on from; ``state=False`` leaves that as it is.

        Raises:
            InputError: no permission, or an energy that cannot be described.
        """
        about = {
            "status": self.status.name,
            "history": [r.to_json() for r in self.history],
            "cost": vars(self.cost),
            "unit": self.unit,
            "algorithm": self.algorithm,
            "configuration": dict(self.configuration),
        }
        checkpoint.write(Path(folder), self.energy, about)
        if state:
            checkpoint.write_state(Path(folder), self.snapshot)
        return Path(folder)


def load(folder: str | Path) -> Fit:
    """A fit saved by :meth:`Fit.save`.

    Raises:
        InputError: the folder holds no fit, or a damaged or foreign one.
    """
    energy, about = checkpoint.read(Path(folder))
    theta = {n: p.detach().clone() for n, p in energy.named_parameters() if p.requires_grad}
    with checkpoint.damaged(Path(folder)):
        return Fit(
            energy=energy,
            theta=theta,
            history=tuple(Record.from_json(r) for r in about["history"]),
            status=Status[about["status"]],
            cost=Cost(**about["cost"]),
            unit=about["unit"],
            configuration=about["configuration"],
            algorithm=about["algorithm"],
            snapshot=checkpoint.read_state(Path(folder)),
        )
