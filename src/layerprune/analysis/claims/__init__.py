"""The claims ledger: what the records say of the paper's claims, by rules written down in config/claims/rules.yaml.

A quantity is a function Study -> list[Sample]; the rules bound it by the name that it has here.
"""

from collections.abc import Callable

from layerprune.analysis.claims import determinism, early, flow, rivals, robustness, savings
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.frames import Study

QUANTITIES: dict[str, Callable[[Study], list[Sample]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        early.removed_before_half,
        early.removed_before_consolidation,
        flow.working_networks,
        flow.largest_gap,
        savings.training_macs,
        savings.inference_macs,
        savings.accuracy_difference,
        determinism.undecided_theta,
        robustness.spread_of_depth,
        robustness.spread_of_accuracy,
        robustness.depth_over_starts,
        rivals.against_matched_depth,
        rivals.against_no_dearer,
    )
}
