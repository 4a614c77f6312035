"""Banks of small filters: the two ways to apply them, and the code that is compiled for them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import BilevelWarning
from bilevel.model.describe import build, describe

BOUNDARIES = ["reflecting", "valid"]
BANKS: dict[str, Callable[[], torch.Tensor]] = {
    "of two sizes": lambda: torch.randn(4, 2, 5, 3),
    "even": lambda: torch.randn(3, 1, 3, 2),
    "as large as the image": lambda: torch.randn(2, 1, 8, 9),
    "5x5 DCT": lambda: bl.regularisers.dct_filters(5),
    "4x4 DCT": lambda: bl.regularisers.dct_filters(4),
}


def dense(experts: bl.regularisers.FieldsOfExperts, shape: tuple[int, int, int]) -> torch.Tensor:
    """The matrix of the responses, (filters, places, pixels)."""
    pixels = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    found = experts.features(pixels).detach().flatten(2)
    return found.permute(1, 2, 0)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", BANKS)
def test_bounds_of_norms(name: str, boundary: Literal["reflecting", "valid"]) -> None:
    """Above the dense norms, close to them for DCT banks where images reflect; rows exact."""
    bank = BANKS[name]()
    experts = bl.regularisers.FieldsOfExperts(bank, boundary=boundary).double()
    shape = bank.shape[1], 8, 9
    matrix, scale = dense(experts, shape), torch.rand(len(bank), dtype=torch.float64)
    rows = matrix.norm(dim=2).amax(1)
    torch.testing.assert_close(experts.feature_norm().flatten(), rows)
    gram = torch.einsum("mip,m,miq->pq", matrix, scale, matrix)
    ratio = float(
        experts.gram_bound(scale[:, None, None], shape) / torch.linalg.matrix_norm(gram, 2)
    )
    assert ratio >= 1
    if "DCT" in name and boundary == "reflecting":
        assert ratio <= 1.2


def test_images_go_on_as_their_mirror_images() -> None:
    """As responses to an image that has been extended by hand."""
    x, bank = torch.rand(2, 1, 6, 7), torch.randn(3, 1, 5, 3)
    wide = torch.cat([x[:, :, :2].flip(2), x, x[:, :, -2:].flip(2)], 2)
    wide = torch.cat([wide[..., :1], wide, wide[..., -1:]], 3)
    inside = bl.regularisers.FieldsOfExperts(bank, boundary="valid").features(wide)
    experts = bl.regularisers.FieldsOfExperts(bank)
    torch.testing.assert_close(experts.features(x), inside)
    assert experts.features(x).shape[2:] == x.shape[2:]


class Mine(bl.regularisers.FieldsOfExperts):
    """A user's own kind."""


@pytest.mark.parametrize("kind", [bl.regularisers.FieldsOfExperts, Mine])
def test_experts_saved_without_a_boundary_are_valid(
    kind: type[bl.regularisers.FieldsOfExperts],
) -> None:
    """As they were before there was another one."""
    experts = kind(torch.randn(3, 1, 3, 3), boundary="valid")
    description, tensors = describe(experts)
    del description["options"]["boundary"]
    x = torch.rand(1, 1, 6, 6)
    torch.testing.assert_close(build(description, tensors)(x), experts(x))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("channels", "size", "coupled"), [(1, (3, 5), False), (3, (4, 2), False), (1, (2, 3), True)]
)
def test_the_adjoint_is_the_same_on_a_tape(
    channels: int,
    size: tuple[int, int],
    coupled: bool,
    dtype: torch.dtype,
    boundary: Literal["reflecting", "valid"],
) -> None:
    """And ⟨W x, p⟩ = ⟨x, Wᵀ p⟩ either way."""
    filters = torch.randn(6, channels, *size)
    experts = bl.regularisers.FieldsOfExperts(filters, coupled=coupled, boundary=boundary).to(dtype)
    x = torch.randn(2, 3 if coupled else channels, 9, 8, dtype=dtype)
    t = experts.features(x).detach()
    p = torch.randn_like(t)
    shape = x.shape[1], x.shape[2], x.shape[3]
    taped = experts.features_adjoint(p, shape).detach()
    with torch.no_grad():
        plain = experts.features_adjoint(p, shape)
    torch.testing.assert_close(plain, taped)
    assert float((plain * x).sum()) == pytest.approx(float((t * p).sum()), rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("potential", ["student-t", "power", "huber", "spline", "rbf"])
def test_compiled_code_gives_the_same_and_is_not_made_anew(
    potential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the parameters have moved, as they do in learning."""
    x, v = torch.rand(2, 2, 1, 24, 24)
    experts = bl.regularisers.FieldsOfExperts(
        bl.regularisers.dct_filters(3), 0.02, 0.05, potential=potential
    )

    def found() -> list[torch.Tensor]:
        value, slope = experts.value_and_grad(x)
        return [experts(x), experts.grad(x), value, slope, experts.hessian(x)(v)]

    torch._dynamo.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", BilevelWarning)
        for _ in range(3):
            monkeypatch.setenv("BILEVEL_COMPILE", "never")
            written = found()
            monkeypatch.setenv("BILEVEL_COMPILE", "always")
            torch.testing.assert_close(found(), written, rtol=1e-4, atol=1e-5)
            made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            for parameter in experts.parameters():
                parameter.mul_(1.01)
        found()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made > 0
