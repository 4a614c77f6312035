"""A loss of R and ∇R at images: what stands for the bilevel loss, without a lower level."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from bilevel.data.crops import check_size, turned
from bilevel.data.samples import Batch
from bilevel.ground.checks import check_count, check_positive
from bilevel.ground.errors import InputError
from bilevel.ground.randomness import generator
from bilevel.ground.theta import Theta, bind, derivative, leaves
from bilevel.learn.directions import permutation
from bilevel.learn.evaluation import Evaluation
from bilevel.learn.identity import Identity
from bilevel.learn.pretraining.descent import Descent, Drawn
from bilevel.learn.pretraining.method import Method
from bilevel.learn.pretraining.norms import Norms
from bilevel.learn.separable import BilevelProblem
from bilevel.model import Variational
from bilevel.model.losses import Scale
from bilevel.model.regularisers.regulariser import ImageTerm
from bilevel.model.smooth import Smooth, SmoothSum

__all__ = ["Draw", "Surrogate", "SurrogateProblem"]


@dataclass(frozen=True)
class Draw:
    """Images of one size, (b, c, h, w) each but for the last."""

    clean: Tensor
    degraded: Tensor
    """Where the reconstruction of the same place starts; ``clean`` where nobody asks for it."""
    normal: Tensor
    """Independent standard normal numbers."""
    uniform: Tensor
    """One number in [0, 1) a row, (b, 1, 1, 1)."""


@dataclass(frozen=True, kw_only=True)
class Surrogate(Method):
    """A loss that needs no reconstruction, lowered by steps of Adam on random crops.

    Cascades of filters keep the norm that they begin with, and the length of each bank, where
    scales or a weight are trained too.

    Args:
        batch_size: crops a step.
        size: side of the crops [pixel]; smaller images are taken whole.
        augment: turn and mirror the crops at random.
        rate: how far Adam moves an entry of θ in a step, at the start.
        decay: share of the rate that is left when the budget is used up, in (0, 1].
        momentum: how much of the mean of directions a step keeps, in [0, 1).
        memory: how much of the mean of their squares a step keeps, in [0, 1).
    """

    batch_size: int = 16
    size: int = 64
    augment: bool = True
    rate: float = 1e-2
    decay: float = 0.1
    momentum: float = 0.5
    memory: float = 0.9

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self.batch_size, "batch_size")
        check_count(self.size, "size")
        check_positive(self.rate, "rate")
        if not 0 < self.decay <= 1:
            raise InputError("decay must lie in (0, 1]", given=self.decay)
        for name in ("momentum", "memory"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must lie in [0, 1)", given=getattr(self, name))

    @abstractmethod
    def losses(self, prior: Smooth, draw: Draw, progress: float) -> Tensor:
        """One a row, (b,), differentiable in θ; ``progress`` of the budget is in [0, 1]."""

    @abstractmethod
    def fitted(self, targets: Sequence[Tensor]) -> Surrogate:
        """With what was left to the data taken from images that are wanted."""

    @abstractmethod
    def scale(self) -> Scale:
        """What the values mean."""

    @property
    def compares(self) -> bool:
        """Whether degraded images are needed beside the clean ones."""
        return False

    @property
    def smallest(self) -> int:
        """The side of the smallest images that it can be computed on [pixel]."""
        return 1

    def problem(self, whole: BilevelProblem, theta: Theta, seed: int) -> SurrogateProblem:
        """The mean of the losses."""
        return SurrogateProblem(whole, self, theta, seed)

    def solver(self) -> Descent:
        """Adam."""
        return Descent(self.rate, self.decay, self.momentum, self.memory)


class SurrogateProblem(Drawn):
    """min_θ of the mean over samples of a surrogate: θ, sets, samples and account of ``whole``.

    Crops and noise of a step depend on ``seed``, the step and the id; those of a look at θ on
    ``seed`` and the id. Nothing is proved of the values.

    Args:
        whole: a bilevel problem with targets, of a ``Variational`` energy with a smooth
            regulariser of the image alone.
        method: the losses.
        theta: where it starts; the energy's own values where it has none.
        seed: of crops and noise.

    Raises:
        InputError: another kind of problem or regulariser, or images that are too small.
    """

    def __init__(self, whole: BilevelProblem, method: Surrogate, theta: Theta, seed: int) -> None:
        self.whole, self.seed = whole, seed
        shown = [self._clean(batch) for batch in whole.samples.batches(whole.samples.shown(), 64)]
        for target in shown:
            check_size(target.shape[2:], (method.smallest, method.smallest), "a target")
        self.method = method.fitted(shown)
        self.regulariser = _smooth_regulariser(whole, shown[0][:1])
        start = whole.space.project({**whole.theta, **theta})
        self.norms = Norms.of(self.regulariser, start, "regulariser")
        super().__init__(replace(whole.facts, theta=start, loss=self.method.scale()))

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.whole)

    @property
    def words(self) -> str:
        """The method and its options."""
        return repr(self.method)

    def settled(self, theta: Theta) -> Theta:
        """In Θ, cascades with the norm of the start."""
        return self.norms.kept(super().settled(theta))

    def drawn(self, theta: Theta, t: int, progress: float) -> Evaluation:
        """Loss and gradient at the crops of step ``t``.

        Raises:
            BudgetExhausted: during ``pretrain``, when the budget is used up.
        """
        count, size = len(self), self.method.batch_size
        places = range(t * size, (t + 1) * size)
        ids = [int(permutation(count, self.seed, "crops", p // count)[p % count]) for p in places]
        draws = self._draws(torch.tensor(ids), [("step", p) for p in places])
        return self._evaluated(theta, draws, progress)[0]

    def look(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None
    ) -> tuple[Evaluation, Tensor]:
        """The mean and all losses, (K,), at crops that are always the same; without a gradient."""
        del tol
        return self._seen(theta, ids, gradient=False)

    def value_and_grad(
        self, theta: Theta, *, tol: float, ids: Tensor | None = None, estimate: bool = False
    ) -> Evaluation:
        """Loss and gradient at the crops of :meth:`look`.

        Raises:
            BudgetExhausted: during ``pretrain``, when the budget is used up.
        """
        del tol, estimate
        return self._seen(theta, ids, gradient=True)[0]

    def gauss_newton(
        self, theta: Theta, *, tol: float, rtol: float = 1e-6, ids: Tensor | None = None
    ) -> Tensor:
        """There is none: the losses are no functions of a minimiser.

        Raises:
            InputError: always.
        """
        raise InputError("a surrogate has no Gauss-Newton matrix", advice="use its own solver")

    def first_accuracy(self, theta: Theta, fraction: float = 0.02) -> float:
        """A fraction of the contrast [grey value]; nothing here depends on it."""
        del theta
        return fraction * self.contrast

    def few(self) -> Tensor:
        """Those of the whole problem."""
        return self.whole.few()

    def reached(self, at: Evaluation) -> bool:
        """Never."""
        del at
        return False

    def outward(self, theta: Theta) -> Theta:
        """As the whole problem."""
        return self.whole.outward(theta)

    def price(self, theta: Theta) -> float:
        """Nothing: what θ costs counts with the bilevel loss."""
        del theta
        return 0.0

    def identity(self, theta: Theta) -> Identity:
        """That of the whole problem, and the method."""
        found = self.whole.identity(theta).also("pretraining", self.method)
        return found.also("pretraining.seed", self.seed)

    def _seen(
        self, theta: Theta, ids: Tensor | None, *, gradient: bool
    ) -> tuple[Evaluation, Tensor]:
        samples = self.whole.samples
        index = torch.arange(len(self)) if ids is None else samples.numbers(ids)
        parts: list[tuple[Evaluation, Tensor]] = []
        for chosen in torch.split(index, self.method.batch_size):
            draws = self._draws(chosen, [("look",)] * len(chosen))
            parts.append(self._evaluated(theta, draws, 1.0, gradient=gradient))
        losses = torch.cat([part for _, part in parts])
        grad: Theta = {name: torch.zeros_like(v) for name, v in theta.items()} if gradient else {}
        for found, part in parts:
            for name, slope in found.grad.items():
                grad[name] = grad[name] + slope * (len(part) / len(losses))
        return Evaluation.unproved(theta, float(losses.mean()), grad), losses

    def _evaluated(
        self,
        theta: Theta,
        draws: Sequence[tuple[Tensor, Draw]],
        progress: float,
        *,
        gradient: bool = True,
    ) -> tuple[Evaluation, Tensor]:
        """Mean and losses, in the order that the places in ``draws`` tell."""
        with self.metered(), torch.set_grad_enabled(gradient):
            named = leaves(theta)
            part = bind(self.regulariser, self._own(self.norms.kept(named)))
            found = [self.method.losses(_prior(part, d.clean), d, progress) for _, d in draws]
            order = torch.cat([places for places, _ in draws]).argsort()
            losses = torch.cat(found)[order.to(found[0].device)]
            slope = self.space.tangent(derivative(losses.mean(), named)) if gradient else {}
            self.cost.count_gradients(len(losses))
            if gradient:
                self.cost.count_hvps(len(losses))
        values = losses.detach().double()
        return Evaluation.unproved(theta, float(values.mean()), slope), values

    def _own(self, theta: Theta) -> Theta:
        """The parameters of the regulariser, under their names in it."""
        start = "regulariser."
        return {n.removeprefix(start): v for n, v in theta.items() if n.startswith(start)}

    def _draws(
        self, index: Tensor, keys: Sequence[tuple[object, ...]]
    ) -> list[tuple[Tensor, Draw]]:
        """What is seen of the samples ``index``, size by size, with their places in it."""
        cut: dict[torch.Size, list[tuple[int, Draw]]] = {}
        samples = self.whole.samples
        for places in samples.places(index, len(index)):
            batch = samples.checked(index[places])
            clean = self._clean(batch)
            start = self._start(batch.y) if self.method.compares else clean
            for k, place in enumerate(map(int, places)):
                name = samples.ids[int(index[place])]
                rng = generator(self.seed, "pretraining", name, *keys[place])
                one = self._draw((clean[k : k + 1], start[k : k + 1]), rng)
                cut.setdefault(one.clean.shape, []).append((place, one))
        return [
            (torch.tensor([p for p, _ in group]), _joined(d for _, d in group))
            for group in cut.values()
        ]

    def _clean(self, batch: Batch) -> Tensor:
        """What of the targets are images."""
        found = self.whole.loss.images(batch.target)
        if found is None:
            given = f"targets of {type(self.whole.loss).__name__}, which are no images"
            raise InputError("pretraining needs clean images", given=given)
        return found

    def _start(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self.whole.energy.image(self.whole.energy.start(y)).detach()

    def _draw(self, images: tuple[Tensor, Tensor], rng: torch.Generator) -> Draw:
        """A crop of both images, turned alike, and numbers of its own."""
        size = self.method.size
        height, width = (min(size, side) for side in images[0].shape[2:])
        top, left = (
            int(torch.randint(side - part + 1, (), generator=rng))
            for side, part in zip(images[0].shape[2:], (height, width), strict=True)
        )
        turns = int(torch.randint(8, (), generator=rng)) if self.method.augment else 0
        clean, degraded = (
            turned(x[:, :, top : top + height, left : left + width], turns) for x in images
        )
        normal = torch.randn(clean.shape, generator=rng, dtype=torch.float64)
        uniform = torch.rand((1, 1, 1, 1), generator=rng, dtype=torch.float64)
        return Draw(clean, degraded, normal.to(clean), uniform.to(clean))


def _joined(draws: Iterable[Draw]) -> Draw:
    parts = list(draws)
    names = "clean", "degraded", "normal", "uniform"
    return Draw(*(torch.cat([cast(Tensor, getattr(d, name)) for d in parts]) for name in names))


def _prior(part: ImageTerm, x: Tensor) -> Smooth:
    return SmoothSum(tuple(cast(Smooth, f) for f in part.at(x)))


def _smooth_regulariser(whole: BilevelProblem, x: Tensor) -> ImageTerm:
    energy = whole.energy
    if not isinstance(energy, Variational):
        given = type(energy).__name__
        raise InputError("pretraining needs a Variational energy", given=given)
    part = energy.regulariser
    if energy.further or not all(isinstance(f, Smooth) for f in part.at(x)):
        advice = "take a smooth one, e.g. TotalVariation, RidgeRegulariser or one of bl.networks"
        given = "a regulariser without a gradient, or with channels of its own"
        raise InputError("pretraining needs ∇R of the image", given=given, advice=advice)
    learned = [name for name in whole.theta if name.startswith("regulariser.")]
    if not learned:
        raise InputError("nothing of the regulariser is learned", advice="see its learn=...")
    return part
