"""Samples whose data exist at places of their own: the same as a mask for each."""

from __future__ import annotations

import pytest
import torch

import bilevel as bl
from bilevel.ground.errors import InputError
from bilevel.model.operators import Convolution, FourierMask, Identity, Mask, MultiCoil, Operator
from bilevel.model.operators.accompanied import Accompanied
from contracts.operators import Case, OperatorContract

RNG = torch.Generator().manual_seed(0)
BLUR = torch.tensor([[0.2, 0.5, 0.3]])


class TestAccompanied(OperatorContract):
    cases = (
        Case("identity", lambda: Accompanied(Identity()), (2, 5, 4), 1.0 + 1e-9, exact=True),
        Case("blur", lambda: Accompanied(Convolution(BLUR)), (1, 6, 7)),
        Case("fourier", lambda: Accompanied(FourierMask(torch.ones(4, 6))), (1, 4, 6)),
    )


def test_weights_are_asked_for() -> None:
    energy = bl.Variational(bl.fidelities.ObservedL2(), bl.regularisers.Tikhonov(1.0))
    with pytest.raises(InputError, match="weights beside them"):
        energy.check(torch.ones(1, 3, 4, 4))


@pytest.mark.parametrize("kind", ["identity", "blur", "coils"])
def test_each_row_is_reconstructed_as_with_a_mask_of_its_own(kind: str) -> None:
    operators: dict[str, Operator] = {
        "identity": Identity(),
        "blur": Convolution(BLUR, "reflecting"),
        "coils": MultiCoil(torch.ones(8, 9)),
    }
    own = operators[kind].double()
    x = torch.rand(3, 2 if kind == "coils" else 1, 8, 9, generator=RNG, dtype=torch.float64)
    m = (torch.rand(3, 1, 8, 9, generator=RNG) < 0.7).double()
    y = m * own(x)
    both = torch.cat([y, m.expand_as(y)], 1)
    ridge = bl.regularisers.TotalVariation(0.1, 0.05) + bl.regularisers.Tikhonov(0.01)
    energy = bl.Variational(bl.fidelities.ObservedL2(own, 2.0), ridge).double()
    tol = bl.Tolerance(rms=1e-8)
    found = bl.minimise(energy.at(both), bl.solvers.LBFGS(), tol=tol)
    assert bool((found.certificate.rms <= 1e-8).all())
    for k in range(3):
        alone = bl.Variational(energy.fidelity.shared(Mask(m[k, 0]) @ own), ridge).double()
        exact = bl.minimise(alone.at(y[k : k + 1]), bl.solvers.LBFGS(), tol=tol)
        torch.testing.assert_close(found.x[k : k + 1], exact.x, rtol=0, atol=1e-6)
