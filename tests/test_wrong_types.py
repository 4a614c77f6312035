"""No constructor takes, or fails on, an argument of another type than the one it is annotated with.

Every argument of every part is given everything that a slip may put there.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import bilevel as bl
from bilevel.ground import InputError
from bilevel.ground.given import typed

WRONG: dict[str, object] = {
    "nan": math.nan,
    "inf": math.inf,
    "minus": -1.0,
    "half": 2.5,
    "text": "x",
    "nothing": None,
    "empty": [],
    "pair": (1.0, -1.0),
    "object": object(),
    "table": {},
    "truth": True,
    "map": torch.ones(2, 3, 4),
    "none of a map": torch.zeros(0),
    "negative map": -torch.ones(4, 4),
    "map of nan": torch.full((4, 4), math.nan),
    "complex": torch.ones(4, 4, dtype=torch.complex64),
}
BANKS = [torch.ones(2, 1, 3, 3), torch.ones(4, 2, 3, 3)]
GIVEN: dict[str, dict[str, Any]] = {
    "LinearSpline": {"knots": torch.tensor([0.5, 1.0]), "slopes": torch.zeros(2)},
    "RadialBasis": {"coefficients": torch.ones(5)},
    "GroupedExperts": {"filters": BANKS},
    "RidgeRegulariser": {"filters": BANKS},
    "SplineRidge": {"filters": BANKS},
    "MultiScale": {"regulariser": bl.regularisers.TotalVariation()},
    "Rescaled": {"regulariser": bl.regularisers.TotalVariation()},
    "Composed": {
        "regulariser": bl.regularisers.TotalVariation(),
        "operator": bl.operators.Identity(),
    },
    "Masked": {"fidelity": bl.fidelities.SquaredL2()},
    "SampledL2": {"operator": bl.operators.Identity(), "mask": torch.ones(4, 4)},
    "Network": {"module": torch.nn.Flatten()},
    "LocalNetwork": {"channels": (2, 2)},
    "InputConvexNetwork": {"channels": 2},
    "DifferenceOfConvex": {"channels": 2},
    "TotalDeepVariation": {"features": 2},
    "LeastSquaresResidual": {"channels": (2, 2)},
    "ModuleLoss": {"module": torch.nn.Flatten()},
    "SegmentationLoss": {"segmenter": torch.nn.Flatten()},
    "TargetChannels": {"loss": bl.losses.PSNR(), "first": 0, "count": 1},
    "WeightedError": {"weights": torch.ones(4, 4)},
    "GaussianNoise": {"sigma": 0.1},
    "PoissonNoise": {"peak": 9.0},
    "PoissonGaussianNoise": {"gain": 0.1, "read_noise": 0.1},
    "ImpulseNoise": {"share": 0.1},
    "RicianNoise": {"sigma": 0.1},
    "SpeckleNoise": {"looks": 3.0},
    "StudentTNoise": {"sigma": 0.1},
    "Budget": {"steps": 1},
}  # fmt: skip
"""What a constructor needs."""


def parts() -> Iterator[type]:
    for family in ("regularisers", "fidelities", "networks", "losses", "penalties", "pretraining"):
        found = vars(getattr(bl, family)).values()
        yield from (one for one in found if inspect.isclass(one) and not inspect.isabstract(one))
    yield from (one for name, one in vars(bl.data).items() if name in GIVEN)
    yield bl.Budget


PARTS = sorted({part.__name__: part for part in parts()}.items())
TAKEN = {"float": {"minus", "half", "inf"}, "int": set[str](), "bool": {"truth"}}
"""What may be right for some of these types."""


def tried(build: Callable[[], object]) -> str | None:
    """What is said of it; None if it is taken."""
    try:
        build()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("part", [part for _, part in PARTS], ids=[name for name, _ in PARTS])
def test_arguments_are_taken_or_refused_in_one_sentence(part: type) -> None:
    given, named = GIVEN.get(part.__name__, {}), inspect.signature(part).parameters
    if {key for key, one in named.items() if one.default is one.empty} - given.keys():
        pytest.skip("another part makes it")
    for key, parameter in named.items():
        said = {k: tried(lambda v=v, key=key: part(**given | {key: v})) for k, v in WRONG.items()}  # type: ignore[misc]
        assert said["object"] is not None and said["map of nan"] is not None, (key, said)
        assert all(sentence is None or "\n" not in sentence for sentence in said.values())
        kind = parameter.annotation.removesuffix(" | None")
        more = {"nothing"} if kind != parameter.annotation else set[str]()
        if kind in TAKEN:
            taken = {name for name, sentence in said.items() if sentence is None}
            assert taken <= TAKEN[kind] | more, key


def test_most_parts_are_there() -> None:
    assert len(PARTS) > 50


class Sized(bl.extend.Loss):
    """A loss without options."""

    value = grad = lipschitz = lambda self, *args: args[0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bl.regularisers.TotalVariation(learn="weight"),
         "learn of TotalVariation must be a list, each a string, but got 'weight'"),
        (lambda: bl.regularisers.Tikhonov(torch.ones(2)),
         "weight of Tikhonov must be a number or None, but got a tensor (2,), torch.float32"),
        (lambda: bl.data.GaussianNoise((0.1, 0.2, 0.3)),
         "sigma of GaussianNoise must be a number or (a number, a number), "
         "but got (0.1, 0.2, 0.3)"),
        (lambda: bl.regularisers.ExactTotalVariation(coupled="no"),
         "coupled of ExactTotalVariation must be True or False, but got 'no'"),
        (lambda: bl.regularisers.TotalVariation(torch.ones(4, 4, dtype=torch.complex64)),
         "weight must be real, but got a tensor, torch.complex64; give its real part or its abs()"),
        (lambda: bl.learn(None, budget=bl.Budget(steps=1)),
         "problem of learn must be a Problem, but got None"),
        (lambda: bl.directional_maps(torch.ones(1, 1, 32, 32), window=3.5),
         "window of directional_maps must be a whole number, but got 3.5"),
        (lambda: bl.fidelities.SquaredL2() + bl.regularisers.TotalVariation(),
         "each term of the sum must be a DataTerm, but got TotalVariation; of a fidelity and a "
         "regulariser make bl.Variational(fidelity, regulariser)"),
        (lambda: bl.losses.PSNR() + 1,
         "the loss must be a Loss, but got int; take one of bl.losses, or wrap an nn.Module in "
         "bl.losses.ModuleLoss"),
        (lambda: bl.losses.PSNR() + bl.losses.SSIM,
         "the loss must be a Loss, but got the class SSIM; take one of bl.losses, or wrap an "
         "nn.Module in bl.losses.ModuleLoss"),
        (lambda: bl.penalties.Size() + 1,
         "a term of a penalty must be a Penalty, but got int; take one of bl.penalties"),
        (lambda: bl.BilevelProblem(bl.regularisers.TotalVariation(), bl.losses.PSNR(), None),
         "the energy must be an Energy, but got TotalVariation; "
         "e.g. bl.Variational(fidelity, regulariser)"),
    ],
)  # fmt: skip
def test_sentences(build: Callable[[], object], message: str) -> None:
    assert tried(build) == message


def test_what_python_says_itself_stays() -> None:
    with pytest.raises(TypeError, match=r"Tikhonov.*unexpected keyword argument 'wieght'"):
        bl.regularisers.Tikhonov(wieght=1.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Sized: too many positional arguments"):
        Sized(1)  # type: ignore[call-arg]


def test_numbers_of_other_libraries_are_numbers() -> None:
    import numpy as np

    for weight in (1, np.float32(1), np.int64(1), torch.tensor(1.0), np.ones((4, 4))):
        part = bl.regularisers.TotalVariation(weight)  # type: ignore[arg-type]
        assert not part.log_weight.any()
    assert bl.regularisers.WaveletSparsity([1.0] * 9).log_weight.shape == (9,)  # type: ignore[arg-type]


def test_a_function_whose_types_cannot_be_found_is_left_alone() -> None:
    def twice(x: Unknown) -> object:  # type: ignore[name-defined]  # noqa: F821
        return x

    def gathered(*values: int, **named: int) -> int:
        return len(values) + len(named)

    assert typed(twice)("a") == "a"
    assert typed(gathered)(1, 2, three=3) == 3
