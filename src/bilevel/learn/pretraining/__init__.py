"""Methods that train a regulariser without solving the lower level, and what is fitted after."""

from bilevel.ground.contents import contents as _contents
from bilevel.learn.pretraining.adversarial import (
    AdversarialRegularisation as AdversarialRegularisation,
)
from bilevel.learn.pretraining.method import Method as Method
from bilevel.learn.pretraining.proximal import ProximalTraining as ProximalTraining
from bilevel.learn.pretraining.scalar import ScalarFit as ScalarFit
from bilevel.learn.pretraining.score import ScoreMatching as ScoreMatching
from bilevel.learn.pretraining.surrogate import Draw as Draw
from bilevel.learn.pretraining.surrogate import Surrogate as Surrogate

__doc__ = _contents(__name__)
