"""The claims ledger: what the records say of the paper's claims, by rules written down in config/claims/rules.yaml.

A quantity is a function Study -> list[Sample]; the rules bound it by the name that it has here.
"""

from collections.abc import Callable

from layerprune.analysis.claims import comparisons, hyper_prior, removal, robustness
from layerprune.analysis.claims.sample import Sample
from layerprune.analysis.frames import Study

QUANTITIES: dict[str, Callable[[Study], list[Sample]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        removal.removed_before_quarter,
        removal.removed_before_quarter_where_time_allows,
        removal.removed_before_half,
        removal.removed_by_quarter_where_time_allows,
        removal.removed_by_half,
        removal.removed_before_consolidation,
        removal.working_networks,
        removal.largest_gap,
        comparisons.training_macs,
        comparisons.inference_macs,
        comparisons.accuracy_difference,
        comparisons.wall_seconds,
        comparisons.latency_of_one,
        comparisons.latency_of_a_batch,
        comparisons.training_macs_against_cheapest_rival,
        comparisons.training_macs_at_equal_accuracy,
        comparisons.inference_macs_at_equal_accuracy,
        comparisons.accuracy_difference_at_equal_accuracy,
        hyper_prior.thetas_undecided,
        hyper_prior.undecided_theta,
        hyper_prior.cost_of_rounding,
        hyper_prior.too_early_removals,
        hyper_prior.too_early_against_other_priors,
        hyper_prior.too_early_from_other_starts,
        hyper_prior.premature_removals,
        hyper_prior.premature_removals_seen_once,
        hyper_prior.premature_against_other_priors,
        hyper_prior.premature_against_other_priors_seen_once,
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
        removal.came_back,
        removal.came_back_though_predicted_to_go,
        removal.weights_of_sections_that_may_go,
        removal.decay_off_prediction,
        removal.drift_left,
        removal.squared_drift_left,
        removal.squared_drift_left_with_constant_steps,
        comparisons.against_as_large,
        comparisons.against_as_cheap,
        comparisons.against_as_cheap_by_seed,
        comparisons.against_controls_as_large,
        comparisons.against_controls_as_cheap,
        comparisons.training_macs_of_controls,
        comparisons.training_macs_of_controls_with_the_search,
        comparisons.against_matched_depth,
        comparisons.against_no_dearer,
        comparisons.against_all_of_matched_depth,
        comparisons.against_all_no_dearer,
    )
}
