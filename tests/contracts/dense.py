"""Small linear problems twice: as energies, and as matrices with every criterion in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bilevel.model import Variational
from bilevel.model.fidelities import SquaredL2
from bilevel.model.operators import (
    Convolution,
    Differences,
    FourierMask,
    Identity,
    Mask,
    Matrix,
    Operator,
)
from bilevel.model.regularisers import Tikhonov
from contracts.states import ComplexFourier, TwoTaps

H, W, ROWS, SIGMA = 5, 6, 3, 0.3
N = H * W
COMPLEX = (2, 3, 5)
"""As many numbers: the real and the imaginary part of a smaller image."""
RNG = np.random.default_rng(7)
KERNEL = np.array([[0.05, 0.1, 0.0], [0.1, 0.5, 0.1], [0.0, 0.1, 0.05]])
SEEN = RNG.random((H, W)) < 0.7
RANDOM = RNG.normal(size=(20, N)) * 0.7 ** np.arange(20)[:, None]
FREQUENCIES = RNG.random((H, W)) < 0.6


def images_of(matrix: np.ndarray) -> list[np.ndarray]:
    return [column.reshape(H, W) for column in matrix.T]


def blurred(image: np.ndarray) -> np.ndarray:
    """The circular convolution with KERNEL, its middle at the pixel."""
    out = np.zeros_like(image)
    for i in range(3):
        for j in range(3):
            out += KERNEL[i, j] * np.roll(image, (i - 1, j - 1), (0, 1))
    return out


def differences(image: np.ndarray) -> np.ndarray:
    down, right = np.zeros((H, W)), np.zeros((H, W))
    down[:-1], right[:, :-1] = image[1:] - image[:-1], image[:, 1:] - image[:, :-1]
    return np.concatenate([down.ravel(), right.ravel()])


def sampled(image: np.ndarray) -> np.ndarray:
    z = FREQUENCIES * np.fft.fft2(image, norm="ortho")
    return np.concatenate([z.real.ravel(), z.imag.ravel()])


TAPS = (1.0, -0.375)
WEIGHTS = 0.3 + 0.7 * RNG.random(COMPLEX[1:])


def tapped(image: np.ndarray) -> np.ndarray:
    return TAPS[0] * image + TAPS[1] * np.roll(image, 1, 0)


def coils(image: np.ndarray) -> np.ndarray:
    real, imaginary = image.reshape(COMPLEX)
    z = WEIGHTS * np.fft.fft2(real + 1j * imaginary, norm="ortho")
    return np.concatenate([z.real.ravel(), z.imag.ravel()])


UNITS = images_of(np.eye(N))
FORWARD: dict[str, tuple[Operator, np.ndarray]] = {
    "denoise": (Identity(), np.eye(N)),
    "blur": (
        Convolution(torch.tensor(KERNEL)),
        np.stack([blurred(u).ravel() for u in UNITS], 1),
    ),
    "matrix": (Matrix(torch.tensor(RANDOM), (1, H, W)), RANDOM),
    "mask": (Mask(torch.tensor(SEEN).double()), np.diag(SEEN.ravel().astype(float))),
    "fourier": (
        FourierMask(torch.tensor(FREQUENCIES).double()),
        np.stack([sampled(u) for u in UNITS], 1),
    ),
    "learnable": (TwoTaps(*TAPS), np.stack([tapped(u).ravel() for u in UNITS], 1)),
    "complex": (ComplexFourier(torch.tensor(WEIGHTS)), np.stack([coils(u) for u in UNITS], 1)),
}
INNER: dict[str, tuple[Operator, np.ndarray]] = {
    "identity": (Identity(), np.eye(N)),
    "differences": (Differences(), np.stack([differences(u) for u in UNITS], 1)),
}


@dataclass(frozen=True)
class Dense:
    """½‖A x - y‖² + w/2 ‖B x‖² by dense linear algebra, for the data y (m,) of one row."""

    a: np.ndarray
    b: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        return np.abs(self.a).max(1) > 1e-12

    @property
    def m(self) -> int:
        return int(self.seen.sum())

    def hessian(self, w: float) -> np.ndarray:
        return self.a.T @ self.a + w * self.b.T @ self.b

    def response(self, w: float) -> np.ndarray:
        return np.linalg.solve(self.hessian(w), self.a.T)

    def x(self, w: float, y: np.ndarray) -> np.ndarray:
        return self.response(w) @ y

    def residual(self, w: float, y: np.ndarray) -> np.ndarray:
        return self.seen * (self.a @ self.x(w, y) - y)

    def df(self, w: float) -> float:
        return float(np.trace(self.a @ self.response(w)))

    def slopes(self, w: float, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dx/dlog w and d²x/dlog w²."""
        gram, x = w * self.b.T @ self.b, self.x(w, y)
        first = -np.linalg.solve(self.hessian(w), gram @ x)
        return first, -np.linalg.solve(self.hessian(w), gram @ (x + 2 * first))

    def truncated(self, t: float) -> np.ndarray:
        """A⁺ of the singular values above t times the largest."""
        u, s, vt = np.linalg.svd(self.a, full_matrices=False)
        kept = s > t * s[0]
        return (vt[kept].T / s[kept]) @ u[:, kept].T

    def ridged(self, t: float) -> np.ndarray:
        """(AᵀA + t²‖A‖²)⁻¹Aᵀ."""
        gram = self.a.T @ self.a
        ridge = t**2 * np.linalg.norm(self.a, 2) ** 2
        return np.linalg.solve(gram + ridge * np.eye(N), self.a.T)


@dataclass(frozen=True)
class Problem:
    energy: Variational
    dense: Dense
    y: Tensor
    truth: Tensor

    def row(self, k: int) -> np.ndarray:
        return self.y[k].flatten().numpy()


def problem(forward: str, inner: str) -> Problem:
    operator, a = FORWARD[forward]
    of_regulariser, b = INNER[inner]
    regulariser = Tikhonov(1.0, of_regulariser).double()
    energy = Variational(SquaredL2(operator).double(), regulariser)
    random = np.random.default_rng(3)
    smooth = np.cumsum(np.cumsum(random.normal(size=(ROWS, H, W)), 1), 2) / 3
    clean = smooth.reshape(ROWS, N) @ a.T
    y = clean + SIGMA * random.normal(size=clean.shape)
    image = COMPLEX if forward == "complex" else (1, H, W)
    data = torch.tensor(y).reshape(ROWS, *operator.data_shape(image))
    return Problem(energy, Dense(a, b), data, torch.tensor(smooth).reshape(ROWS, *image))
