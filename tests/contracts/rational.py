"""Small variational energies in 50-digit arithmetic, on the numbers as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

import torch
from torch import Tensor

import bilevel as bl
from bilevel.model.regularisers import Sum
from bilevel.model.regularisers.regulariser import Regulariser

Number = Decimal
DIGITS = 50
ZERO, ONE, TWO = Decimal(0), Decimal(1), Decimal(2)


def exactly(tensor: Tensor) -> list[Decimal]:
    return [Decimal(value) for value in tensor.detach().flatten().tolist()]


def weight(log_weight: Tensor) -> Decimal:
    """The exponential of a stored logarithm."""
    return Decimal(log_weight.item()).exp()


@dataclass(frozen=True)
class Exact:
    """J of one row, (1, h, w), and its subgradient of least norm where no dual term is there."""

    energy: bl.Variational
    y: list[Decimal]
    height: int
    width: int

    @staticmethod
    def of(energy: bl.Variational, y: Tensor) -> Exact:
        """Of one row of data with one channel."""
        return Exact(energy, exactly(y), y.shape[-2], y.shape[-1])

    @property
    def parts(self) -> list[Regulariser]:
        whole = self.energy.regulariser
        return whole.parts if isinstance(whole, Sum) else [whole]

    @property
    def mask(self) -> list[Decimal]:
        operator = self.energy.fidelity.operator
        if isinstance(operator, bl.operators.Mask):
            return exactly(operator.mask)
        return [ONE] * len(self.y)

    def differences(self) -> list[tuple[int | None, int | None]]:
        """Of every pixel, the next one below and to the right."""
        h, w = self.height, self.width
        pairs = [(i, j) for i in range(h) for j in range(w)]
        return [
            ((i + 1) * w + j if i + 1 < h else None, i * w + j + 1 if j + 1 < w else None)
            for i, j in pairs
        ]

    def value(self, x: list[Decimal]) -> Decimal:
        """J(x)."""
        with localcontext() as context:
            context.prec = DIGITS
            return self._fidelity(x) + sum((self._part(part, x) for part in self.parts), ZERO)

    def _fidelity(self, x: list[Decimal]) -> Decimal:
        fidelity, t = self.energy.fidelity, [m * v for m, v in zip(self.mask, x, strict=True)]
        w = weight(fidelity.log_weight)
        misfit = [a - b for a, b in zip(t, self.y, strict=True)]
        if isinstance(fidelity, bl.fidelities.L1):
            return w * sum((abs(r) for r in misfit), ZERO)
        if isinstance(fidelity, bl.fidelities.SquaredL2):
            return w * sum((r * r for r in misfit), ZERO) / 2
        total = ZERO
        b = Decimal(fidelity.background)
        for a, c in zip(t, self.y, strict=True):
            z, s = max(c + b, ZERO), max(a + b, b)
            u = (s - a - b) / b
            low = min(u, ONE)
            total += s - z - (z * (s / z).ln() if z else ZERO)
            total += -b * u * (1 - z / s) + z * u * u / 2
            total += 2 * b * (low**3 / 6 + (u - low) * (u + low - 1) / 2)
        return w * total

    def _part(self, part: Regulariser, x: list[Decimal]) -> Decimal:
        if isinstance(part, bl.regularisers.Box):
            return ZERO
        w = weight(part.log_weight)
        if isinstance(part, bl.regularisers.Tikhonov):
            return w * sum((v * v for v in x), ZERO) / 2
        if isinstance(part, bl.regularisers.Sparsity):
            return w * sum((abs(v) for v in x), ZERO)
        total = ZERO
        for k, found in enumerate(self.differences()):
            steps = [ZERO if j is None else x[j] - x[k] for j in found]
            if part.isotropic:
                total += (steps[0] ** 2 + steps[1] ** 2).sqrt()
            else:
                total += abs(steps[0]) + abs(steps[1])
        return w * total

    def slope(self, x: list[Decimal]) -> list[Decimal]:
        """The subgradient of least norm."""
        with localcontext() as context:
            context.prec = DIGITS
            g = self._data_slope(x)
            low, high = [ZERO] * len(x), [ZERO] * len(x)
            for part in self.parts:
                self._add(part, x, g, low, high)
            return [a + min(max(-a, b), c) for a, b, c in zip(g, low, high, strict=True)]

    def _data_slope(self, x: list[Decimal]) -> list[Decimal]:
        fidelity, found = self.energy.fidelity, []
        w = weight(fidelity.log_weight)
        for m, v, c in zip(self.mask, x, self.y, strict=True):
            if isinstance(fidelity, bl.fidelities.SquaredL2):
                found.append(w * m * (m * v - c))
                continue
            b = Decimal(fidelity.background)
            z, s = max(c + b, ZERO), max(m * v + b, b)
            u = (s - m * v - b) / b
            low = min(u, ONE)
            found.append(w * m * (1 - z / s - z / b * u - low * low - 2 * (u - low)))
        return found

    def _add(
        self,
        part: Regulariser,
        x: list[Decimal],
        g: list[Decimal],
        low: list[Decimal],
        high: list[Decimal],
    ) -> None:
        if isinstance(part, bl.regularisers.Box):
            box = part.term().rounded(part_dtype(self.energy))
            for k, v in enumerate(x):
                if v == Decimal(box.lower):
                    low[k] = Decimal("-inf")
                if v == Decimal(box.upper):
                    high[k] = Decimal("inf")
            return
        w = weight(part.log_weight)
        if isinstance(part, bl.regularisers.Tikhonov):
            for k, v in enumerate(x):
                g[k] += w * v
        elif isinstance(part, bl.regularisers.Sparsity):
            for k, v in enumerate(x):
                low[k] += -w if v <= 0 else w
                high[k] += w if v >= 0 else -w
        else:
            self._add_variation(part, w, x, g)

    def _add_variation(
        self, part: Regulariser, w: Decimal, x: list[Decimal], g: list[Decimal]
    ) -> None:
        nu = weight(part.log_smoothing)
        for k, found in enumerate(self.differences()):
            steps = [ZERO if j is None else x[j] - x[k] for j in found]
            together = (steps[0] ** 2 + steps[1] ** 2).sqrt()
            for j, step in zip(found, steps, strict=True):
                if j is not None:
                    size = (together if part.isotropic else abs(step)) / nu
                    if part.potential == "huber":
                        force = w * step / nu / max(size, ONE)
                    else:
                        force = w * step / nu / (1 + size * size).sqrt()
                    g[j] += force
                    g[k] -= force


def part_dtype(energy: bl.Variational) -> torch.dtype:
    return energy.fidelity.log_weight.dtype


def rms(a: list[Decimal]) -> float:
    """√mean(a²)."""
    with localcontext() as context:
        context.prec = DIGITS
        return float((sum((v * v for v in a), ZERO) / len(a)).sqrt())
