from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import bilevel as bl
from bilevel.learn import Fit, Status
from bilevel.report.parameters import model_name, parameters, parts, scalar_values


def fit_of(regulariser: bl.regularisers.Regulariser) -> Fit:
    energy = bl.Variational(bl.fidelities.SquaredL2(), regulariser)
    theta = {n: p.detach().clone() for n, p in energy.named_parameters() if p.requires_grad}
    return Fit(energy, theta, (), Status.BUDGET, bl.Cost())


def test_weights_are_shown_and_not_their_logarithms(tiny_fit: Fit) -> None:
    first = tiny_fit.history[0]
    weight, smoothing = parameters(tiny_fit)
    assert weight.owner == smoothing.owner == "Total variation"
    assert (weight.name, weight.unit) == ("weight", "1")
    assert (smoothing.name, smoothing.unit) == ("smoothing", "grey value")
    assert weight.start == "0.02"
    assert first.scalars["regulariser.terms.0.log_weight"] == pytest.approx(math.log(0.02))
    learned = float(tiny_fit.theta["regulariser.terms.0.log_weight"].exp())
    assert float(weight.learned) == pytest.approx(learned, rel=1e-2)


def test_paths_of_scalars(tiny_fit: Fit) -> None:
    values = scalar_values(tiny_fit)
    assert set(values) == {f"Total variation: {n}" for n in ("weight", "smoothing")}
    assert values["Total variation: weight"][0] == pytest.approx(0.02)
    assert scalar_values(replace(tiny_fit, history=())) == {name: [] for name in values}


def test_maps_and_filters_are_summed_up() -> None:
    weights = torch.full((4, 4), 0.1)
    weights[0, 0] = 0.4
    (row, _) = parameters(fit_of(bl.regularisers.TotalVariation(weights)))
    assert row.start == ""
    assert row.learned == "16 values from 0.1 to 0.4, median 0.1"
    experts = fit_of(bl.regularisers.FieldsOfExperts(bl.regularisers.dct_filters(3)))
    bank = parameters(experts)[0]
    assert bank.learned == "8 filters of 3 × 3, norms 1 to 1"
    assert bank.owner == "Fields of experts"


def test_names_of_models(tiny_fit: Fit) -> None:
    assert model_name(tiny_fit) == "total variation"
    both = bl.regularisers.TotalVariation(0.1) + bl.regularisers.Tikhonov(0.1)
    assert model_name(fit_of(both)) == "total variation and Tikhonov"


def test_terms_of_one_kind_are_numbered() -> None:
    twice = bl.regularisers.Tikhonov(0.1) + bl.regularisers.Tikhonov(0.2)
    rows = parameters(fit_of(twice))
    assert [(row.owner, row.learned) for row in rows] == [
        ("Tikhonov (term 1)", "0.1"),
        ("Tikhonov (term 2)", "0.2"),
    ]


def test_parts_are_found_by_kind(tiny_fit: Fit) -> None:
    ((name, part),) = parts(tiny_fit, bl.regularisers.Tikhonov)
    assert name == "Tikhonov"
    assert isinstance(part, bl.regularisers.Tikhonov)
    assert not list(parts(tiny_fit, bl.regularisers.FieldsOfExperts))


def test_an_energy_of_ones_own() -> None:
    class RidgeEnergy(bl.Energy):
        def __init__(self) -> None:
            super().__init__()
            self.shift = torch.nn.Parameter(torch.tensor(-2.0))

    energy = RidgeEnergy()
    fit = Fit(energy, {"shift": energy.shift.detach()}, (), Status.BUDGET, bl.Cost())
    (row,) = parameters(fit)
    assert (row.owner, row.name, row.learned) == ("Ridge energy", "shift", "−2")


def test_banks_of_a_cascade_are_named_after_the_regulariser() -> None:
    banks = [torch.randn(2, 1, 3, 3), torch.randn(4, 2, 3, 3)]
    ridge = bl.regularisers.RidgeRegulariser(banks, learn=("filters",))
    energy = bl.Variational(bl.fidelities.SquaredL2(), ridge)
    fit = Fit(energy, bl.ground.theta.learnable(energy), (), Status.BUDGET, bl.Cost())
    assert [(p.owner, p.name) for p in parameters(fit)] == [
        ("Ridge regulariser", "filters 1"),
        ("Ridge regulariser", "filters 2"),
    ]


def test_what_is_inside_of_a_network_is_summed_up() -> None:
    network = bl.networks.InputConvexNetwork(channels=2, size=3)
    energy = bl.Variational(bl.fidelities.SquaredL2(), network)
    fit = Fit(energy, bl.ground.theta.learnable(energy), (), Status.BUDGET, bl.Cost())
    weight, scale, inside = parameters(fit)
    assert (weight.name, scale.name, inside.name) == ("weight", "scale", "network")
    assert {p.owner for p in (weight, scale, inside)} == {"Input-convex network"}
    assert inside.learned == "61 values in 6 tensors"
    assert model_name(fit) == "input-convex network"


def test_parameters_have_the_words_of_the_field() -> None:
    fidelity = bl.fidelities.GaussianPoisson(learn=("gaussian", "poisson"))
    directional = bl.regularisers.DirectionalTV(learn=("direction",))
    energy = bl.Variational(fidelity, directional)
    fit = Fit(energy, bl.ground.theta.learnable(energy), (), Status.BUDGET, bl.Cost())
    assert [(p.owner, p.name) for p in parameters(fit)] == [
        ("Gaussian Poisson", "weight of Gaussian noise"),
        ("Gaussian Poisson", "weight of Poisson noise"),
        ("Directional TV", "½ log anisotropy × cos 2 angle"),
        ("Directional TV", "½ log anisotropy × sin 2 angle"),
    ]
    assert model_name(fit) == "Gaussian Poisson and directional TV"
