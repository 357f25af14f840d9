"""The standard shallower network of the family, such as ResNet-14 for ResNet-20, from a fresh initialisation.

Every stage has equally many sections. It is the network of the family whose number of removable sections is nearest to
gated's (or to a given number), the deeper one in a tie. Trained like Scratch-E. A network that keeps the first sections
of every stage is that shallower network to the last weight: what is removed is an identity.
"""

from layerprune.core.methods.base import ControlPlan, Question
from layerprune.core.settings import ScratchAtDepthSettings

VERSION = 1
REQUIRES = "stages"


def plan(settings: ScratchAtDepthSettings, question: Question) -> ControlPlan:
    """The first sections of every stage; equal epochs."""
    depths = range(max(_places(question.names)) + 1)
    nearest = min(depths, key=lambda depth: (abs(sum(_keep(question.names, depth)) - question.keep_count), -depth))
    return ControlPlan(_keep(question.names, nearest), "fresh")


def _places(names: list[str]) -> list[int]:
    """Place of each section in its stage, from its name: stage2.1 is the second of its stage."""
    return [int(name.rpartition(".")[2]) for name in names]


def _keep(names: list[str], last: int) -> list[int]:
    return [int(place <= last) for place in _places(names)]
