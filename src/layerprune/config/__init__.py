"""Typed settings: a preset's YAML, checked, and the runs that it means.

A preset names datasets, their architectures and methods; `plan` expands it to runs, `resolve` gives one run's complete
settings. Every key has a description with its unit; unknown keys are refused. Science keys decide results and enter a
run's digest; resource keys (`resources`, `data`) never do. Imports no torch.
"""

from layerprune.config.basics import Settings, steps_of
from layerprune.config.claims import Claim, Condition
from layerprune.config.methods import (
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
    settings_class,
)
from layerprune.config.preset import Preset
from layerprune.config.reading import (
    TorchrunPlace,
    data_root,
    environment_below,
    load_claims,
    load_preset,
    parse_preset,
    read_preset,
    torchrun_place,
    with_trainings_of_one_epoch,
)
from layerprune.config.runs import RunSettings, plan, prerequisites, resolve
from layerprune.config.training import FinetuneSettings, ModelSettings, TrainingSettings

__all__ = [
    "ByIndexSettings",
    "CkaSettings",
    "Claim",
    "Condition",
    "EpsilonResnetSettings",
    "EstimatorErrorSettings",
    "FinetuneSettings",
    "GalSettings",
    "GatedSettings",
    "HardConcreteSettings",
    "LinearProbeSettings",
    "ModelSettings",
    "NoSettings",
    "Preset",
    "RandomRemovalSettings",
    "RunSettings",
    "ScoreSettings",
    "ScratchAtDepthSettings",
    "ScratchSettings",
    "Settings",
    "SparseStructureSettings",
    "StochasticDepthSettings",
    "TorchrunPlace",
    "TrainingSettings",
    "data_root",
    "environment_below",
    "load_claims",
    "load_preset",
    "parse_preset",
    "plan",
    "prerequisites",
    "read_preset",
    "resolve",
    "settings_class",
    "steps_of",
    "torchrun_place",
    "with_trainings_of_one_epoch",
]
