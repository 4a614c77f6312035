"""An upper-level algorithm of one's own."""

from dataclasses import dataclass

from bilevel.extend import (
    Algorithm,
    BilevelProblem,
    Evaluation,
    FitStatus,
    Packable,
    Theta,
    check_positive,
    verdict,
)


@dataclass(frozen=True)
class SignState(Packable):
    evaluation: Evaluation
    step: float
    accepted: bool = True
    status: FitStatus = FitStatus.RUNNING


@dataclass(frozen=True)
class SignDescent(Algorithm[SignState]):
    """Every entry of θ moves by the same amount, which shrinks when the loss grows.

    Args:
        first_step: how far an entry moves at first.
        accuracy: of the lower level, rms [grey value].
    """

    first_step: float = 0.3
    accuracy: float = 1e-3

    def __post_init__(self) -> None:
        check_positive(self.first_step, "first_step")
        check_positive(self.accuracy, "accuracy")

    def init(self, problem: BilevelProblem, theta: Theta) -> SignState:
        return SignState(problem.value_and_grad(theta, tol=self.accuracy), self.first_step)

    def step(self, problem: BilevelProblem, state: SignState) -> SignState:
        at = state.evaluation
        moved = {k: v - state.step * at.grad[k].sign() for k, v in at.theta.items()}
        new = problem.value_and_grad(problem.space.project(moved), tol=self.accuracy)
        if new.corrected < at.corrected:
            return SignState(new, state.step, status=verdict(problem, new, 1e-3))
        return SignState(at, state.step / 2, accepted=False)
