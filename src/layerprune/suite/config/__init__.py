"""A study's configuration: a preset's YAML, checked, and the runs that it means.

A preset names datasets, their architectures and methods; `plan` expands it to runs, `resolve` gives one run's complete
settings. Every key has a description with its unit; unknown keys are refused. Science keys decide results and enter a
run's digest; resource keys (`resources`, `data`) never do. Imports no torch.
"""

from layerprune.suite.config.campaign import CampaignPlan, Selector
from layerprune.suite.config.claims import Claim, Condition, Rule
from layerprune.suite.config.preset import Preset
from layerprune.suite.config.reading import (
    data_root,
    environment_below,
    evidence,
    load_campaign,
    load_claims,
    load_preset,
    parse_preset,
    read_preset,
)
from layerprune.suite.config.runs import (
    NO_RUNS,
    RunSettings,
    datasets_with_runs,
    plan,
    prerequisites,
    resolve,
    weight_prerequisites,
)

__all__ = [
    "NO_RUNS",
    "CampaignPlan",
    "Claim",
    "Condition",
    "Preset",
    "Rule",
    "RunSettings",
    "Selector",
    "data_root",
    "datasets_with_runs",
    "environment_below",
    "evidence",
    "load_campaign",
    "load_claims",
    "load_preset",
    "parse_preset",
    "plan",
    "prerequisites",
    "read_preset",
    "resolve",
    "weight_prerequisites",
]
