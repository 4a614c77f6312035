"""Sensitivities that come with the data: each row has its own coils and its own mask."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

import bilevel as bl
from bilevel.data import birdcage
from bilevel.ground import rows
from bilevel.ground.randomness import generator
from bilevel.model.fidelities import Fidelity, Masked, OwnCoils, SquaredL2
from bilevel.model.operators import Identity, MultiCoil
from contracts.fidelities import FidelityContract
from contracts.zoo import Random

SIZE, COILS = (6, 5), 3


def maps(count: int, rng: torch.Generator, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.complex(*torch.randn(2, count, COILS, *size, generator=rng, dtype=torch.float64))


def of_size(size: tuple[int, int], *, centred: bool = False) -> SquaredL2:
    coils = MultiCoil(torch.ones(size), birdcage(size, COILS), centred=centred)
    return SquaredL2(coils, learn=("weight",))


class TestOwnCoils(FidelityContract):
    names: ClassVar[tuple[str, ...]] = ("coils", "centred coils")

    @staticmethod
    def make(name: str, seed: int) -> tuple[Fidelity, Tensor, Tensor, Random]:
        rng = generator(seed, "own coils", name)
        inner = of_size(SIZE, centred=name == "centred coils").double()
        x = torch.randn(3, 2, *SIZE, generator=rng, dtype=torch.float64)
        y = torch.randn(3, 2 * COILS, *SIZE, generator=rng, dtype=torch.float64)
        mask = (torch.rand(3, 1, *SIZE, generator=rng, dtype=torch.float64) - 0.2).clamp_min(0.0)
        return OwnCoils(inner), x, OwnCoils.data(y, maps(3, rng), mask), rng


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centred", [False, True])
def test_every_row_is_reconstructed_as_alone_with_its_coils(
    dtype: torch.dtype, centred: bool
) -> None:
    """The rows leave at different steps, so that what remains must keep the right coils."""
    rng, size, scale = generator(0, "coils of rows"), (10, 12), torch.tensor([0.1, 1.0, 3.0])
    own = (maps(3, rng, size) * scale.reshape(-1, 1, 1, 1)).to(dtype.to_complex())
    seen = torch.rand(3, 1, 1, size[1], generator=rng) < torch.tensor([0.9, 0.6, 0.4]).reshape(
        -1, 1, 1, 1
    )
    mask = seen.expand(-1, -1, *size)
    x = torch.rand(3, 2, *size, generator=rng).to(dtype)
    operators = [MultiCoil(mask[k, 0].to(dtype), own[k], centred=centred) for k in range(3)]
    y = torch.cat([operator(x[k : k + 1]) for k, operator in enumerate(operators)])
    tv = bl.regularisers.TotalVariation(0.02, 0.05, coupled=True) + bl.regularisers.Tikhonov(0.1)
    whole = bl.Variational(OwnCoils(of_size(size, centred=centred)), tv).to(dtype)
    tol = bl.Tolerance(rms=1e-3)
    objective = whole.at(OwnCoils.data(y, own, mask))
    found = bl.minimise(objective, bl.solvers.LBFGS(), tol=tol).require()
    assert len(set(found.steps.tolist())) > 1
    for k, operator in enumerate(operators):
        alone = bl.Variational(SquaredL2(operator), tv).to(dtype)
        expected = bl.minimise(alone.at(y[k : k + 1]), bl.solvers.LBFGS(), tol=tol).require()
        off = rows.rms(found.x[k : k + 1] - expected.x)
        assert float(off) <= float(found.certificate.rms[k] + expected.certificate.rms)


def test_a_weight_is_learned_from_samples_of_different_coils_saved_and_used(tmp_path) -> None:
    rng, size = generator(1, "learned coils"), (8, 8)
    x = torch.rand(2, 2, *size, generator=rng).double()
    own = maps(2, rng, size)
    y = torch.cat(
        [MultiCoil(torch.ones(size), own[k])(x[k : k + 1]) for k in range(2)]
    ) + 0.05 * torch.randn(2, 2 * COILS, *size, generator=rng, dtype=torch.float64)
    data = OwnCoils.data(y, own)
    tv = bl.regularisers.TotalVariation(0.02, 0.05, coupled=True, learn=("weight",))
    regulariser = tv + bl.regularisers.Tikhonov(1e-2, learn=())
    energy = bl.Variational(OwnCoils(of_size(size)), regulariser).double()
    pairs = bl.data.Pairs(data, x, ("a", "b"))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    assert bl.check_hypergradient(problem).passed
    fit = bl.learn(problem, budget=bl.Budget(steps=2))
    again = bl.load(fit.save(tmp_path))
    torch.testing.assert_close(again.reconstruct(data).x, fit.reconstruct(data).x)


def test_units_left_to_the_data_are_those_of_the_coils() -> None:
    """Whatever maps the operator of the fidelity holds."""
    rng, size = generator(2, "units of coils"), (12, 12)
    own = 7.0 * maps(1, rng, size)
    x = 40 * torch.rand(1, 2, *size, generator=rng).double()
    plain = SquaredL2(MultiCoil(torch.ones(size), own[0]))
    y = plain.operator(x)
    tv = bl.regularisers.TotalVariation(coupled=True)
    alone = bl.Variational(plain, tv).double()
    whole = bl.Variational(OwnCoils(of_size(size)), tv).double()
    assert whole.contrast(OwnCoils.data(y, own)) == pytest.approx(alone.contrast(y), rel=1e-9)


def test_strong_coils_of_other_rows_change_no_contrast() -> None:
    rng, size = generator(3, "strong coils"), (12, 12)
    x = torch.rand(1, 2, *size, generator=rng).double().expand(3, -1, -1, -1)
    own = maps(3, rng, size) * torch.tensor([0.1, 0.1, 10.0]).reshape(-1, 1, 1, 1)
    y = torch.cat([MultiCoil(torch.ones(size), own[k])(x[k : k + 1]) for k in range(3)])
    tv = bl.regularisers.TotalVariation(coupled=True)
    whole, data = bl.Variational(OwnCoils(of_size(size)), tv).double(), OwnCoils.data(y, own)
    alone = [whole.contrast(data[k : k + 1]) for k in range(3)]
    assert min(alone) / 2 <= whole.contrast(data) <= 2 * max(alone)


@pytest.mark.parametrize("inner", [SquaredL2, bl.fidelities.KullbackLeibler])
def test_a_sum_compares_as_its_first_term(inner: type[Fidelity]) -> None:
    rng = generator(4, "sum of masked")
    x, mask = torch.rand(2, 1, 8, 8, generator=rng), torch.rand(2, 1, 8, 8, generator=rng) > 0.3
    first = Masked(SquaredL2())
    data, tv = Masked.data(mask * x, mask), bl.regularisers.TotalVariation()
    both = bl.Variational(first + Masked(inner()), tv)
    assert both.contrast(data) == bl.Variational(first, tv).contrast(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: OwnCoils(SquaredL2(Identity())), "MultiCoil"),
        (lambda: OwnCoils(OwnCoils(of_size(SIZE))), "once"),
        (lambda: OwnCoils.data(torch.ones(2, 6, *SIZE), torch.ones(2, 3, *SIZE)), "complex"),
        (lambda: OwnCoils.data(torch.ones(2, 6, *SIZE), torch.ones(3, *SIZE) * 1j), "complex"),
        (lambda: at(torch.ones(1, 6, *SIZE)), "channels"),
        (lambda: at(OwnCoils.data(torch.ones(2, 6, *SIZE), maps(2, torch.Generator()) * DARK)),
         r"sensitivities are zero everywhere, but got maps of zeros in rows \[1\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, said: str) -> None:
    with pytest.raises(bl.InputError, match=said):
        make()


DARK = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)


def at(y: Tensor) -> None:
    bl.Variational(OwnCoils(of_size(SIZE)), bl.regularisers.Tikhonov(0.1)).at(y)
