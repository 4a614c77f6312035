"""Networks as regularisers: what the contract of all regularisers leaves out."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bilevel as bl
from bilevel.cli.catalogue import CATALOGUE, import_parts
from bilevel.ground.randomness import generator
from bilevel.ground.theta import bind, learnable
from bilevel.model.by_row import with_theta
from bilevel.model.networks.convex import Convex
from contracts.networks import FULL, KINDS, NETWORKS, Patches, Sum, small

N = bl.networks
DOUBLE = torch.float64
ALL = small(FULL)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed, "networks"), dtype=DOUBLE)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (N.InputConvexNetwork(), 26_499),
        (N.DifferenceOfConvex(), 52_996),
        (N.LocalNetwork(), 176_930),
        (N.TotalDeepVariation(), 387_394),
        (N.TotalDeepVariation(8, 2, 1), 4_690),
    ],
    ids=["icnn", "idcnn", "cnn", "tdv", "tdv small"],
)
def test_networks_have_the_sizes_of_hertrich_et_al(network: nn.Module, count: int) -> None:
    assert sum(p.numel() for p in network.parameters()) == count


def test_the_input_convex_network_is_its_formula() -> None:
    network = ALL["icnn"](generator(1, "formula")).double()
    core, x = network.network, images(2, 2, 7, 6)
    bend = core.log_bend.exp()

    def relu(t: Tensor) -> Tensor:
        inside = torch.where(t > 0, t.square() / (2 * bend), 0.0)
        return torch.where(t > bend, t - bend / 2, inside)

    s, a = network.log_scale, network.log_weight
    hidden = relu(torch.conv2d(s.exp() * x, core.w_x, core.b_x, padding=1))
    out = relu(torch.conv2d(hidden, core.w_z, core.b_z, padding=1))
    factor = core.log_factor.exp()[:, None, None]
    expected = (a - 2 * s).exp() * (factor * out).sum((1, 2, 3))
    torch.testing.assert_close(network(x), expected)
    assert float(network.bounds((2, 7, 6)).mu) == 0
    with torch.no_grad():
        core.w_z[0, 0, 0, 0] = -0.1
    assert not network.bounds((2, 7, 6)).smooth


def test_the_local_network_is_a_mean_over_patches() -> None:
    network = N.LocalNetwork((4, 3), 1.0, 1.0).double()
    x = images(1, 1, 6, 8)
    wide = torch.nn.functional.pad(x, (6,) * 4, mode="replicate")
    cut = wide.unfold(2, 7, 1).unfold(3, 7, 1).reshape(-1, 1, 7, 7)
    torch.testing.assert_close(network(x), network.layers(cut).sum()[None] / 49)


@pytest.mark.parametrize("sides", [(7, 6), (1, 5), (8, 9)])
def test_going_up_is_the_transpose_of_going_down(sides: tuple[int, int]) -> None:
    halving = N.TotalDeepVariation(3, 2, 1).double().layers.blocks[0].coarser[0]
    u = images(2, 3, *sides)
    down = halving(u)
    v = images(*down.shape, seed=1)
    up = halving.transposed(v, u)
    assert up.shape == u.shape
    torch.testing.assert_close((down * v).sum(), (u * up).sum())


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_differentiable_in_the_parameters(name: str) -> None:
    rng = generator(2, "parameters", name)
    network, x, q = ALL[name](rng).double(), images(2, 2, 6, 5), images(2, 2, 6, 5, seed=1)
    theta = learnable(network)
    assert len(theta) == len(list(network.parameters()))
    move = {k: torch.randn(v.shape, generator=rng, dtype=DOUBLE) for k, v in theta.items()}

    def pull(size: float) -> Tensor:
        moved = {k: v + size * move[k] for k, v in theta.items()}
        return (bind(network, moved).grad(x) * q).sum().detach()

    leaves = {k: v.requires_grad_() for k, v in theta.items()}
    total = (bind(network, leaves).grad(x) * q).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    slope = sum(
        float((g * m).sum()) for g, m in zip(found, move.values(), strict=True) if g is not None
    )
    difference = float((pull(1e-6) - pull(-1e-6)) / 2e-6)
    assert slope == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_values_of_rows(name: str) -> None:
    """Of the weight and the scaling by broadcasting, of all other parameters by mapping."""
    rng = generator(3, "rows", name)
    network, y = ALL[name](rng).double(), images(2, 2, 6, 5)
    energy = bl.Variational(bl.fidelities.SquaredL2().double(), network)
    alone = {k: v for k, v in learnable(energy).items() if v.is_floating_point()}
    sets = [[k for k in alone if k.endswith(("log_weight", "log_scale"))], list(alone)]
    for names in sets:
        theta = {
            k: torch.stack([v, v + 0.1 * torch.rand(v.shape, generator=rng, dtype=DOUBLE)])
            for k, v in alone.items()
            if k in names
        }
        both = with_theta(energy, theta, y).at(y)
        v = images(2, 2, 6, 5, seed=2)
        for k in range(2):
            row = torch.tensor([k])
            single = energy.at(y[row], {name: value[k] for name, value in theta.items()})
            torch.testing.assert_close(both.value(y)[row], single.value(y[row]))
            torch.testing.assert_close(both.grad(y)[row], single.grad(y[row]))
            found = both.hessian(y)(v)[row]
            torch.testing.assert_close(found, single.hessian(y[row])(v[row]))


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_is_near_float64(name: str) -> None:
    network, x = NETWORKS[name](generator(4, name)), images(2, 2, 9, 8)
    rough = network.grad(x.float()).detach()
    fine = network.double().grad(x).detach()
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), fine, rtol=1e-3, atol=1e-4 * float(fine.abs().max()))


@pytest.mark.parametrize("name", ["icnn", "idcnn", "cnn", "total-deep-variation", "lsr"])
@pytest.mark.parametrize("unit", [255.0, 1e-6])
def test_what_is_left_takes_its_units_from_the_data(name: str, unit: float) -> None:
    kind, sizes = KINDS[name]
    x, values = images(1, 1, 12, 12), []
    for scale in (1.0, unit):
        energy = bl.Variational(bl.fidelities.SquaredL2(), kind(*sizes)).double()
        objective = energy.at(scale * x)
        values.append(objective.value(scale * x.flip(2)) / scale**2)
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("name", KINDS)
def test_a_few_steps_lower_the_loss(name: str) -> None:
    kind, sizes = KINDS[name]
    crops = bl.data.embedded_images(size=16)[:4]
    pairs = bl.data.simulate(crops, bl.operators.Identity(), bl.data.GaussianNoise(0.1))
    energy = bl.Variational(bl.fidelities.SquaredL2(), kind(*sizes))
    problem = bl.BilevelProblem(
        energy, bl.losses.SquaredError(), pairs, solver=bl.solvers.LBFGS(), max_steps=100
    )
    method = bl.algorithms.ISGD(
        batch_size=4,
        precondition="adam",
        first_change=0.02,
        accuracy=bl.Accuracy(first=3e-3, floor=3e-3),
    )
    fit = bl.learn(problem, method, budget=bl.Budget(steps=2))
    assert len(fit.history) == 3
    assert fit.history[-1].corrected < fit.history[0].corrected
    assert fit.status.name == "BUDGET"


@pytest.mark.parametrize("name", ["icnn", "network"])
def test_hypergradients_pass_the_taylor_test(name: str) -> None:
    network = ALL[name](generator(5, "taylor", name))
    ridge = bl.regularisers.Tikhonov(1.0, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(), network + ridge).double()
    pairs = bl.data.Pairs(images(1, 2, 4, 4), images(1, 2, 4, 4, seed=1), ("a",))
    problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs)
    assert bl.check_hypergradient(problem).passed


def test_convex_energies_are_certified() -> None:
    network = NETWORKS["icnn"](generator(6, "certified"))
    blur = bl.operators.Convolution(torch.ones(3, 3) / 9)
    ridge = bl.regularisers.Tikhonov(0.05, learn=())
    energy = bl.Variational(bl.fidelities.SquaredL2(blur), network + ridge).double()
    y = images(2, 2, 8, 8)
    exact = bl.minimise(energy.at(y), bl.solvers.LBFGS(), tol=bl.Tolerance(rms=1e-8)).require()
    rough = bl.minimise(energy.at(y), bl.solvers.Nesterov(), tol=bl.Tolerance(rms=1e-3)).require()
    off = (exact.x - rough.x).square().mean((1, 2, 3)).sqrt()
    assert bool((off <= rough.certificate.rms + exact.certificate.rms).all())
    assert bool((rough.certificate.rms <= 1e-3).all())


@pytest.mark.parametrize("name", ["icnn", "idcnn"])
def test_bounds_hold_where_networks_bend(name: str) -> None:
    """Wide bends and shifted features, so that many curvatures are active at once."""
    basis = torch.eye(32, dtype=DOUBLE).reshape(-1, 2, 4, 4)
    for seed in range(25):
        rng = generator(seed, "bending", name)
        network = ALL[name](rng).double()
        with torch.no_grad():
            for key, value in network.named_parameters():
                shift = 0.3 * torch.randn(value.shape, generator=rng) if "b_" in key else 0.0
                value.add_(3 * torch.rand((), generator=rng) if "bend" in key else shift)
            bounds = network.bounds((2, 4, 4))
            x = 10.0 ** (seed % 4 - 2) * torch.randn(1, 2, 4, 4, generator=rng, dtype=DOUBLE)
            matrix = network.hessian(x.expand_as(basis))(basis).flatten(1)
        eigenvalues = torch.linalg.eigvalsh(matrix)
        assert float(eigenvalues[0]) >= float(bounds.mu) - 1e-12
        assert float(eigenvalues[-1]) <= float(bounds.lipschitz)


@pytest.mark.parametrize("name", ["icnn", "network"])
def test_inference_mode_changes_nothing(name: str) -> None:
    energy = bl.Variational(bl.fidelities.SquaredL2(), NETWORKS[name](generator(8, name))).double()
    y = images(1, 2, 6, 6)
    with torch.inference_mode():
        data = y.clone()
        objective = energy.at(data)
        slope, product = objective.grad(data), objective.hessian(data)(data)
        float_energy = bl.Variational(bl.fidelities.SquaredL2(), NETWORKS[name](generator(8, name)))
        tol = bl.Tolerance(residual=1e-7)  # looked at in float64
        bl.minimise(float_energy.at(data.float()), bl.solvers.LBFGS(), tol=tol, max_steps=40)
    objective = energy.at(y)
    torch.testing.assert_close(slope.clone(), objective.grad(y))
    torch.testing.assert_close(product.clone(), objective.hessian(y)(y))
    assert float(slope.abs().max()) > 0


def test_piecewise_linear_networks_have_no_curvature() -> None:
    energy = N.Network(nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), Sum()))
    x = torch.rand(2, 1, 6, 6)
    energy.check((1, 6, 6))
    assert not bool(energy.hessian(x)(x).any())
    assert float(energy.grad(x).detach().abs().max()) > 0


def test_a_network_is_frozen_unless_it_is_learned() -> None:
    for network in NETWORKS.values():
        assert set(learnable(network(generator(0, "frozen")))) == {"log_weight", "log_scale"}
    for kind, sizes in KINDS.values():
        one = kind(*sizes, seed=1)
        assert all(p.requires_grad for p in one.parameters())
        twin, other = (dict(kind(*sizes, seed=seed).named_parameters()) for seed in (1, 2))
        named = list(one.named_parameters())
        assert all(torch.equal(value, twin[name]) for name, value in named)
        assert any(not torch.equal(value, other[name]) for name, value in named)


def test_what_is_learned_is_saved(tmp_path: Path) -> None:
    pairs = bl.data.Pairs(torch.rand(2, 2, 8, 8), torch.rand(2, 2, 8, 8), ("a", "b"))
    given = {
        "module": N.Network(Patches()),
        "denoiser": N.LeastSquaresResidual(Denoiser()),
        "own": ALL["network of one's own"](generator(0, "saved")),
        "plain": N.Network(nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(36, 1))),
    }
    for name, network in given.items():
        if name == "plain":
            network.module.append(nn.Flatten(0))
        energy = bl.Variational(bl.fidelities.SquaredL2(), network)
        problem = bl.BilevelProblem(energy, bl.losses.SquaredError(), pairs, max_steps=50)
        said = pytest.warns(bl.BilevelWarning, match="cannot be saved: Sequential")
        with said if name == "plain" else nullcontext():  # before it is learned
            fit = bl.learn(problem, bl.algorithms.ISGD(2), budget=bl.Budget(steps=1))
        if name == "plain":
            with pytest.raises(bl.InputError, match="options"):
                fit.save(tmp_path / name)
            continue
        fit.save(tmp_path / name)
        again = bl.load(tmp_path / name).energy.regulariser
        torch.testing.assert_close(again(pairs.y), fit.energy.regulariser(pairs.y))


class Denoiser(Patches):
    """A third of each pixel comes from its neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        return x - torch.tanh(self.layer(x)).sum(1, keepdim=True) / 3


OWN = '''
import torch
from torch import nn
from bilevel.extend import NetworkRegulariser

class TwoLayers(NetworkRegulariser):
    """Two layers.

    Args:
        width: features.
    """

    def __init__(self, width: int = 3, weight: float = 1.0, *, learn: list[str] = ("network",)):
        super().__init__(weight, learn=learn)
        self.width = width
        self.layers = self.own(nn.Sequential(nn.Conv2d(1, width, 3), nn.Conv2d(width, 1, 1)))

    def options(self):
        return {"width": self.width, **super().options()}

    def energy(self, x):
        return self.layers(x).cosh().log().flatten(1).sum(1)
'''


def test_tables_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's, for the channels of the data; and one of one's own."""
    for name in KINDS:
        table = CATALOGUE["regularisers"][name]
        assert "denoiser" not in table.model_fields
        assert "image_channels" not in table.model_fields
        sizes = {"channels": 2} if "icnn" in name or "idcnn" in name else {}
        sizes = {"features": 2} if name == "total-deep-variation" else sizes
        built = table.model_validate(sizes).build((3, 6, 6))
        built.check((3, 6, 6))
    monkeypatch.setitem(CATALOGUE, "regularisers", dict(CATALOGUE["regularisers"]))
    path = tmp_path / "own.py"
    path.write_text(OWN)
    import_parts(path)
    table = CATALOGUE["regularisers"]["two-layers"]
    assert table.model_fields["width"].description == "features"
    part = table.model_validate({"width": 2}).build((1, 6, 6))
    part.check((1, 6, 6))
    assert set(learnable(part)) == {f"layers.{k}.{p}" for k in (0, 1) for p in ("weight", "bias")}


def test_numbers_outside_their_ranges_are_refused() -> None:
    bad = [
        lambda: N.InputConvexNetwork(0),
        lambda: N.InputConvexNetwork(size=4),
        lambda: N.InputConvexNetwork(size=-1),
        lambda: N.InputConvexNetwork(smoothing=0.0),
        lambda: N.InputConvexNetwork(weight=-1.0),
        lambda: N.LocalNetwork(()),
        lambda: N.TotalDeepVariation(scales=0),
        lambda: N.LeastSquaresResidual(channels=()),
        lambda: N.LeastSquaresResidual(blocks=0),
    ]
    for make in bad:
        with pytest.raises(bl.InputError):
            make()


@pytest.mark.parametrize("kind", ["icnn", "idcnn", "rescaled icnn"])
def test_rounding_counts_biases_that_cancel(kind: str) -> None:
    """What the second layer adds up is large, and its bias takes it away again."""
    network = NETWORKS[kind.rsplit(maxsplit=1)[-1]](generator(0, kind))
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, Convex):
                part.log_bend.fill_(0.0)
                part.b_x.fill_(1e4)
                part.b_z.copy_(0.5 - (1e4 - 0.5) * part.w_z.sum((1, 2, 3)))
        if "rescaled" in kind:
            network = bl.regularisers.Rescaled(network, 2.0, 3.0)
        x = 1e-3 * torch.randn(1, 2, 16, 16, generator=generator(2))
        found, fine = network.grad(x), copy.deepcopy(network).double().grad(x.double())
    error, eps = float((found - fine).norm()), 4 * torch.finfo(torch.float32).eps
    counted = network.magnitude((2, 16, 16))
    assert error <= eps * float(counted.slope * x.norm() + counted.offset)
    lipschitz = network.bounds((2, 16, 16)).lipschitz
    assert error > eps * float(lipschitz * x.norm() + fine.norm()), "the biases matter"
