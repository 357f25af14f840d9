"""The knobs of every method; a method without any has NoSettings, or those of its family."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from layerprune.core.settings.types import (
    Count,
    Duration,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Settings,
    Several,
    Slug,
    describe,
    later,
)

Cost = Literal["uniform", "macs", "params"]
GatedCost = Literal["uniform", "macs", "params", "latency"]
KeepRule = Literal["matched", "all"] | PositiveInt | Literal[0]
INITIAL_SCALE = later(1.0, "factor on the branches' weights at the start; for comparison")


class NoSettings(Settings):
    """A method without knobs."""


class DenseSettings(Settings):
    """The baseline: trained, or read from a file."""

    weights: str | None = later(
        None, "file of trained weights in the data folder: they are taken, and nothing is trained"
    )


class GatedSettings(Settings):
    """Concurrent training and layer pruning (arXiv 2406.04549); see docs of layerprune.core.methods.trained.gated."""

    nu: NonNegative | None = describe(None, "price of an open section in units of the mean loss (see log_gamma)")
    log_gamma: NonNegative | None = describe(
        None, "log(1/gamma) of the flattening hyper-prior; nu = log_gamma / N. Give nu or log_gamma, not both"
    )
    cost: GatedCost = describe(
        "uniform",
        "weights c_l of the price: 1, or the section's share of MACs / parameters / latency measured at the start",
    )
    theta0: Fraction = describe(0.5, "start value of every gate probability")
    theta_lr: Positive = describe(0.05, "step size of projected SGD on theta, per step")
    warmup: Duration = describe("2ep", "theta stays frozen at theta0 while gates are drawn")
    estimator: Literal["two_sided", "straight_through", "finite_difference", "disarm"] = describe(
        "two_sided", "estimator of Delta_l = E[C | xi_l = 1] - E[C | xi_l = 0]"
    )
    average: Fraction = describe(0.95, "decay per step of the exponential averages behind Delta")
    side_floor: Positive = describe(4.0, "expected examples of a batch on a gate's rarer side (clips sampling)")
    check_interval: PositiveInt = describe(25, "steps between checks of the pruning condition")
    theta_tol: Fraction = describe(0.01, "a section may go once theta <= theta_tol")
    checks: PositiveInt = describe(3, "consecutive checks with theta <= theta_tol and a positive drift")
    consolidate_at: Fraction = describe(0.5, "fraction of training at which theta is rounded to 0 or 1")
    warmup_gates: Literal["drawn", "open"] = later("drawn", "gates while theta is frozen: drawn from theta0, or open")
    drawn_share: Annotated[float, Field(gt=0, le=1)] = later(
        1.0, "share of a batch whose gates are drawn; the others' are theta rounded, so the network meets less noise"
    )

    target_macs: Annotated[float, Field(gt=0, le=1)] | None = later(
        None, "share of the whole network's MACs to end with: nu follows this budget, and starts where it is given"
    )
    target_depth: PositiveInt | None = later(None, "removable sections to end with, in place of target_macs")
    target_latency: Annotated[float, Field(gt=0, le=1)] | None = later(
        None, "share of the whole network's latency, measured at the start, to end with, in place of target_macs"
    )
    latency_batch: PositiveInt = later(1, "images of a batch whose latency counts")
    theta_lr_decay: NonNegative = later(
        0.0, "theta_lr / (1 + this x epochs since the warm-up): above 0 the step sizes are Robbins and Monro's"
    )
    price_ramp: Fraction = later(
        0.0, "fraction of training, after the warm-up, over which the price rises linearly from 0 to nu"
    )
    gates: Literal["example", "batch"] = later(
        "example",
        "a gate for each example, or one for the whole batch: closed branches are not computed then; "
        "needs estimator: finite_difference",
    )
    cost_scale: Literal["section", "network"] = later(
        "section", "what nu is the price of: a section of mean cost (c_l sum to L), or all together (to 1)"
    )
    weight_prior: Literal["independent", "spike-and-slab"] = later(
        "independent",
        "prior on a section's weights: that of all weights, or one that a closed section has none of: theta scales "
        "their decay, and their norm is part of the price",
    )
    kappa: NonNegative = later(0.0, "price of a weight of an open section in nats, with spike-and-slab")
    confirm: Count = later(
        0,
        "batches on which Delta is measured, by two forward passes each, before a section leaves: where it is worth "
        "its price theta is set back to theta0; 0: it leaves unmeasured",
    )
    prior: Literal["flattening", "fixed", "beta", "l0", "none"] = later(
        "flattening", "what shapes the price: see layerprune.core.gates.priors; for comparison"
    )
    prior_mean: Annotated[float, Field(gt=0, lt=0.5)] = later(0.1, "mean of the fixed and of the Beta prior")
    remove: bool = later(True, "false: sections stay until consolidation; for comparison")
    watch: bool = later(False, "note theta, weights, gradients and worth of every section at every check")
    initial_scale: Positive = INITIAL_SCALE

    @model_validator(mode="after")
    def one_price(self) -> "GatedSettings":
        if self.nu is not None and self.log_gamma is not None:
            raise ValueError("give nu or log_gamma, not both")
        targets = (self.target_macs, self.target_depth, self.target_latency)
        if sum(each is not None for each in targets) > 1:
            raise ValueError("give one of target_macs, target_depth and target_latency")
        if self.gates == "batch" and self.estimator != "finite_difference":
            raise ValueError("gates: batch has no slopes of closed sections: it needs estimator: finite_difference")
        if self.gates == "batch" and self.drawn_share != 1:
            raise ValueError("drawn_share applies to gates by example; with gates: batch it must be 1")
        if self.kappa > 0 and self.weight_prior != "spike-and-slab":
            raise ValueError("kappa is the price of a weight under weight_prior: spike-and-slab")
        return self


class SparseStructureSettings(Settings):
    """SSS (Huang & Wang, ECCV 2018): scale factors under an L1 proximal step."""

    gamma: NonNegative = describe(0.01, "L1 strength; the proximal threshold is lr * gamma")
    initial_scale: Positive = INITIAL_SCALE


class HardConcreteSettings(Settings):
    """Hard-concrete L0 gates (Louizos et al., ICLR 2018), one gate a section (an adaptation)."""

    penalty: NonNegative = describe(0.1, "lambda: price of P(z != 0), in units of the mean loss")
    cost: Cost = describe("uniform", "weights c_l of the price: 1, or the section's share of MACs / parameters")
    log_a0: Annotated[float, Field(ge=-1e3, le=1e3)] = describe(
        2.2, "start value of log alpha (2.2: P(z != 0) is about 0.98)"
    )
    gate_lr: Positive = describe(1.0, "learning rate of log alpha as a multiple of the weights'")
    ramp: Fraction = describe(0.2, "fraction of training over which the penalty rises linearly from 0")
    decay: Literal["gated", "full"] = later(
        "gated",
        "weight decay of a branch: multiplied by P(z != 0), as published, or like that of all other weights",
        before="full",
    )
    initial_scale: Positive = INITIAL_SCALE


class StochasticDepthSettings(Settings):
    """Stochastic depth (Huang et al., ECCV 2016); with `keep`, a control for robustness to removal."""

    final_survival: Fraction = describe(0.5, "survival probability p_L of the network's last section")
    keep: KeepRule = describe(
        "all",
        "sections left after training, smallest p_l first out: all, matched (gated's depth), or a number; "
        "nothing is trained after that cut",
    )


class LacootSettings(Settings):
    """LaCoOT (Quetu et al., ICCV 2025): a price on what a section does to its input's distribution."""

    strength: NonNegative = describe(5.0, "lambda: price of the mean max-sliced Wasserstein distance, as for ResNet-18")
    keep: Literal["tolerance", "matched"] | PositiveInt | Literal[0] = describe(
        "tolerance", "sections left after training: as few as `tolerance` lets, matched (gated's depth), or a number"
    )
    tolerance: Fraction = describe(0.01, "share of the validation images that removals may cost together")


class ScoreSettings(Settings):
    """What every score method shares: how many sections stay, and what the score may look at."""

    keep: KeepRule = describe("matched", "sections kept: matched (as many as gated kept, same seed) or a number")
    sample: PositiveInt = describe(2048, "training examples that the score may look at (validation: all of it)")
    removal: Literal["one-shot", "iterative"] = later(
        "one-shot", "iterative: one section at a time, scored anew, within the one fine-tuning budget"
    )
    removed_by: Fraction = later(1.0, "iterative: the share of fine-tuning over which removals are spread")
    distill: Fraction = later(0.0, "weight of distillation from the dense network (temperature 4) in fine-tuning")


class TaylorSettings(ScoreSettings):
    """Scores of LayerPrune that need slopes (Elkerdawy et al., ACCV 2020)."""

    bn: Literal["eval", "train"] = later(
        "eval",
        "batch normalisation while scoring: by the statistics that training left (eval), or by the batch's (train), "
        "as published",
    )


class IterativeScoreSettings(ScoreSettings):
    """Scores that their authors take anew after each removal. The second half of fine-tuning is for what remains: what
    goes at a rate that has nearly fallen to 0 is not made up for."""

    removal: Literal["one-shot", "iterative"] = describe("iterative", "one section at a time, or all at once")
    removed_by: Fraction = describe(0.5, "iterative: the share of fine-tuning over which removals are spread")


class EnergySettings(ScoreSettings):
    """Energy statistics (Soltani et al., arXiv 2201.11209): one large sample."""

    sample: PositiveInt = describe(5184, "training examples of which the distances are formed: 81 batches of 64")


class ConsensusSettings(IterativeScoreSettings):
    """Consensus (Pons et al., arXiv 2411.14345): a sum of ranks."""

    metrics: Annotated[tuple[Slug, ...], Several, Field(min_length=1)] = describe(
        ("cka", "energy", "modularity"), "scores whose ranks are added up"
    )


class CkaSettings(IterativeScoreSettings):
    """CKA layer pruning (Pons et al., ICPR 2024): iterative as published; one-shot is the other form."""


class LinearProbeSettings(ScoreSettings):
    """Linear probes with threshold and distillation (Chen & Zhao, TPAMI 2019)."""

    threshold: Fraction | None = describe(
        None, "least gain of probe accuracy with which a section stays; absent: `keep` decides"
    )
    distill: Fraction = describe(0.5, "weight of distillation from the dense network (temperature 4) in fine-tuning")


class EpsilonResnetSettings(Settings):
    """epsilon-ResNet (Yu, Yu, Ramalingam, CVPR 2018): branches whose every response is small are discarded."""

    epsilon: Positive = describe(2.5, "a branch is discarded where all its responses to a batch stay below")
    start: Fraction = describe(0.5, "fraction of training before which nothing is discarded")
    patience: Duration = describe("1ep", "discarded for so long without a break, a section goes for good")
    check_interval: PositiveInt = describe(25, "steps between checks for such sections")


class GalSettings(Settings):
    """GAL, block selection (Lin et al., CVPR 2019): soft masks learnt against a discriminator, from the dense net."""

    starts_from_dense: ClassVar[bool] = True

    search: Duration = describe("2ep", "length of the search for masks, which fine-tuning follows")
    penalty: NonNegative = describe(0.1, "lambda of lambda ||m||_1")
    imitation: NonNegative = describe(1.0, "mu: weight of the mean squared error to the dense network's logits")
    mask_lr: Positive = describe(1.0, "step size of the masks as a multiple of the weights' learning rate")
    discriminator_lr: Positive = describe(
        0.01, "learning rate of the discriminator (SGD, momentum 0.9); faithful: a tenth after each 30 % of the search"
    )
    faithful: bool = describe(False, "all of the published code, its faults included (see the method's file)")


class ByIndexSettings(Settings):
    """Replays a keep list on the trained dense network."""

    keep_list: Annotated[tuple[Literal[0, 1], ...], Several] | None = describe(
        None, "1 keeps, 0 removes, one number a section; absent: gated's keep list of the same seed"
    )


class ScratchSettings(Settings):
    """Trains gated's final architecture (same seed) from a fresh initialisation (Liu et al., ICLR 2019)."""


class ScratchAtDepthSettings(Settings):
    """Trains an architecture of a given depth, not gated's own, from a fresh initialisation."""

    keep: Literal["matched"] | PositiveInt = describe(
        "matched", "sections: matched (as many as gated kept, same seed) or a number"
    )


class RandomRemovalSettings(Settings):
    """An experiment for claim C2: random sets of sections leave a trained network."""

    starts_from_dense: ClassVar[bool] = True

    lists: PositiveInt = describe(50, "random keep lists")


class EstimatorErrorSettings(Settings):
    """An experiment on gated's estimators, against enumeration."""

    epochs: Annotated[tuple[PositiveInt, ...], Several] = describe(
        (1, 4), "lengths of training after which it is measured, in epochs"
    )
    thetas: Annotated[tuple[Fraction, ...], Several] = describe(
        (0.1, 0.3, 0.5, 0.7, 0.9), "probabilities of every gate to be open"
    )
    sample: PositiveInt = describe(2048, "training examples, on which the truth is formed too")
    batch_size: PositiveInt = describe(128, "examples of a batch")
    batches: PositiveInt = describe(256, "batches that an estimator sees")
    repetitions: PositiveInt = describe(5, "how often it is measured anew")


METHOD_SETTINGS: dict[str, type[Settings]] = {
    "dense": DenseSettings,
    "gated": GatedSettings,
    "sss": SparseStructureSettings,
    "hard-concrete": HardConcreteSettings,
    "stochastic-depth": StochasticDepthSettings,
    "lacoot": LacootSettings,
    "by-index": ByIndexSettings,
    "scratch-e": ScratchSettings,
    "scratch-b": ScratchSettings,
    "scratch-random": ScratchAtDepthSettings,
    "shallower": ScratchAtDepthSettings,
    "cka": CkaSettings,
    "taylor": TaylorSettings,
    "feature-taylor": TaylorSettings,
    "gate-taylor": TaylorSettings,
    "easier": IterativeScoreSettings,
    "tlc": IterativeScoreSettings,
    "consensus": ConsensusSettings,
    "energy": EnergySettings,
    "linear-probes": LinearProbeSettings,
    "epsilon-resnet": EpsilonResnetSettings,
    "gal": GalSettings,
    "random-removal": RandomRemovalSettings,
    "estimator-error": EstimatorErrorSettings,
}
FAMILY_SETTINGS: dict[str, type[Settings]] = {
    "trained": NoSettings,
    "scores": ScoreSettings,
    "controls": NoSettings,
    "experiments": NoSettings,
}
