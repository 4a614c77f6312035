"""Banks of small filters: the two ways to apply them, and the code that is compiled for them."""

from __future__ import annotations

import warnings

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import BilevelWarning


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("channels", "size", "coupled"), [(1, (3, 5), False), (3, (4, 2), False), (1, (2, 3), True)]
)
def test_the_adjoint_is_the_same_on_a_tape(
    channels: int, size: tuple[int, int], coupled: bool, dtype: torch.dtype
) -> None:
    """And ⟨W x, p⟩ = ⟨x, Wᵀ p⟩ either way."""
    filters = torch.randn(6, channels, *size)
    experts = bl.regularisers.FieldsOfExperts(filters, coupled=coupled).to(dtype)
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
