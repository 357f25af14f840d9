"""What can be set of a training, a network and a method: frozen, typed, each key with its meaning. Imports no torch."""

from layerprune.core.settings.methods import (
    ByIndexSettings,
    CkaSettings,
    EpsilonResnetSettings,
    EstimatorErrorSettings,
    GalSettings,
    GatedSettings,
    HardConcreteSettings,
    LinearProbeSettings,
    NoSettings,
    RandomRemovalSettings,
    ScoreSettings,
    ScratchAtDepthSettings,
    ScratchSettings,
    SparseStructureSettings,
    StochasticDepthSettings,
)
from layerprune.core.settings.training import FinetuneSettings, ModelSettings, TrainingSettings
from layerprune.core.settings.types import Settings, steps_of, warmup_steps

__all__ = [
    "ByIndexSettings",
    "CkaSettings",
    "EpsilonResnetSettings",
    "EstimatorErrorSettings",
    "FinetuneSettings",
    "GalSettings",
    "GatedSettings",
    "HardConcreteSettings",
    "LinearProbeSettings",
    "ModelSettings",
    "NoSettings",
    "RandomRemovalSettings",
    "ScoreSettings",
    "ScratchAtDepthSettings",
    "ScratchSettings",
    "Settings",
    "SparseStructureSettings",
    "StochasticDepthSettings",
    "TrainingSettings",
    "steps_of",
    "warmup_steps",
]
