"""The claims ledger: what the records say of the paper's claims, by rules written down in config/claims/rules.yaml.

A quantity is a function Study -> list[Sample]; the rules bound it by the name that it has here.
"""

from collections.abc import Callable

from layerprune.analysis.claims import (
    convergence,
    determinism,
    early_removal,
    hyper_prior,
    information_flow,
    rivals,
    robustness,
    savings,
)
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.frames import Study

QUANTITIES: dict[str, Callable[[Study], list[Sample]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        early_removal.removed_before_quarter,
        early_removal.removed_before_half,
        early_removal.removed_before_consolidation,
        information_flow.working_networks,
        information_flow.largest_gap,
        savings.training_macs,
        savings.inference_macs,
        savings.accuracy_difference,
        savings.wall_seconds,
        savings.latency_of_one,
        savings.latency_of_a_batch,
        savings.training_macs_against_cheapest_rival,
        determinism.undecided_theta,
        determinism.cost_of_rounding,
        hyper_prior.premature_removals,
        hyper_prior.premature_against_other_priors,
        hyper_prior.premature_from_other_starts,
        hyper_prior.spread_against_other_priors,
        robustness.spread_of_depth,
        robustness.spread_of_depth_of_rivals,
        robustness.spread_of_accuracy,
        robustness.depth_over_starts,
        robustness.depth_over_starts_of_rivals,
        robustness.depth_over_theta0,
        robustness.depth_over_gates_at_the_start_of_rivals,
        robustness.depth_over_initial_scale,
        robustness.depth_over_initial_scale_of_rivals,
        robustness.depth_where_the_price_doubles,
        convergence.came_back,
        convergence.came_back_though_predicted_to_go,
        convergence.weights_of_sections_that_may_go,
        convergence.drift_left,
        rivals.against_matched_depth,
        rivals.against_no_dearer,
    )
}
