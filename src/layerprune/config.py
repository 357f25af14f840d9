"""Typed settings: the only module that reads raw configuration (YAML files and LAYERPRUNE_* variables).

A preset names datasets, their architectures and methods; `plan` expands it to runs, `resolve` gives one run's
complete settings. Every key has a description with its unit; unknown keys are refused. Science keys decide
results and enter a run's digest; resource keys (`resources`, `data`) never do. Imports no torch.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from layerprune import methods, paths
from layerprune.data import catalog
from layerprune.errors import LayerpruneError
from layerprune.paths import RunKey
from layerprune.provenance import arch_file, known_archs

Duration = Annotated[str, Field(pattern=r"^[0-9]+(ep|it)$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
PositiveInt = Annotated[int, Field(ge=1, strict=True)]
EvenInt = Annotated[int, Field(ge=2, multiple_of=2, strict=True)]
"""Option A pads with as many zero channels before as behind."""
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def describe(default: Any, text: str) -> Any:
    return Field(default=default, description=text)


def later(default: Any, text: str) -> Any:
    """A setting added after results were recorded: at its default it stays out of the digest, so they stay current."""
    return Field(default=default, description=text, json_schema_extra={"later": True})


# --- training -------------------------------------------------------------------------------------------------


class TrainingSettings(Settings):
    """How weights are trained from scratch (SGD with momentum on the mean cross-entropy)."""

    duration: Duration = describe("20ep", "length of training: epochs ('20ep') or steps ('6400it')")
    batch_size: PositiveInt = describe(128, "examples per step")
    lr: Positive = describe(
        0.02, "peak learning rate; 0.05 diverges on the networks here, whose shortcuts see raw pixels"
    )
    momentum: Fraction = describe(0.9, "SGD momentum")
    nesterov: bool = describe(False, "Nesterov form of the momentum")
    weight_decay: NonNegative = describe(5e-4, "L2 factor lambda of lambda/2 ||W||^2, on all weights")
    schedule: Literal["cosine", "linear", "step", "constant"] = describe("cosine", "learning rate after the warm-up")
    lr_warmup: Duration = describe("0ep", "linear rise of the learning rate from 0")
    augment: Literal["none", "shift", "crop-flip"] = describe(
        "none", "shift: random translation by up to 2 pixels; crop-flip: by up to 4, and mirrored half of the time"
    )
    precision: Literal["fp32", "bf16"] = later("fp32", "bf16: forward and backward pass under autocast to bfloat16")
    engine: Literal["eager", "compiled"] = later(
        "eager", "compiled: forward and backward pass by torch.compile, as CUDA graphs on a GPU; anew at each removal"
    )


class FinetuneSettings(Settings):
    """Training after sections were removed from a trained network; the rest is as in training."""

    duration: Duration = describe("5ep", "length of fine-tuning")
    lr: Positive = describe(0.01, "peak learning rate of fine-tuning")
    schedule: Literal["cosine", "linear", "step", "constant"] = describe("cosine", "learning rate schedule")


class ModelSettings(Settings):
    """What an architecture may be asked for."""

    removable: Literal["all", "shape-preserving"] = describe(
        "all", "shape-preserving: sections whose shortcut is not the identity always stay"
    )
    shortcut: Literal["a", "b"] = describe("a", "resnet: what passes a change of shape, option A or B of He et al.")
    width: EvenInt | None = describe(None, "resnet, vgg16: channels of the first stage, even; absent: as published")


# --- methods --------------------------------------------------------------------------------------------------

Cost = Literal["uniform", "macs", "params"]
KeepRule = Literal["matched", "all"] | PositiveInt | Literal[0]


class NoSettings(Settings):
    """A method without knobs."""


class GatedSettings(Settings):
    """Concurrent training and layer pruning (arXiv 2406.04549); see docs of layerprune.methods.trained.gated."""

    nu: NonNegative | None = describe(None, "price of an open section in units of the mean loss (see log_gamma)")
    log_gamma: NonNegative | None = describe(
        None, "log(1/gamma) of the flattening hyper-prior; nu = log_gamma / N. Give nu or log_gamma, not both"
    )
    cost: Cost = describe("uniform", "weights c_l of the price: 1, or the section's share of MACs / parameters")
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

    @model_validator(mode="after")
    def one_price(self) -> "GatedSettings":
        if self.nu is not None and self.log_gamma is not None:
            raise ValueError("give nu or log_gamma, not both")
        return self


class SparseStructureSettings(Settings):
    """SSS (Huang & Wang, ECCV 2018): scale factors under an L1 proximal step."""

    gamma: NonNegative = describe(0.01, "L1 strength; the proximal threshold is lr * gamma")


class HardConcreteSettings(Settings):
    """Hard-concrete L0 gates (Louizos et al., ICLR 2018), one gate a section (an adaptation)."""

    penalty: NonNegative = describe(0.1, "lambda: price of P(z != 0), in units of the mean loss")
    cost: Cost = describe("uniform", "weights c_l of the price: 1, or the section's share of MACs / parameters")
    log_a0: float = describe(2.2, "start value of log alpha (2.2: P(z != 0) is about 0.98)")
    gate_lr: Positive = describe(1.0, "learning rate of log alpha as a multiple of the weights'")
    ramp: Fraction = describe(0.2, "fraction of training over which the penalty rises linearly from 0")


class StochasticDepthSettings(Settings):
    """Stochastic depth (Huang et al., ECCV 2016); with `keep`, a control for robustness to removal."""

    final_survival: Fraction = describe(0.5, "survival probability p_L of the last section")
    keep: KeepRule = describe(
        "all",
        "sections left after training, smallest p_l first out: all, matched (gated's depth), or a number; "
        "nothing is trained after that cut",
    )


class ScoreSettings(Settings):
    """What every score method shares: how many sections stay, and what the score may look at."""

    keep: KeepRule = describe("matched", "sections kept: matched (as many as gated kept, same seed) or a number")
    sample: PositiveInt = describe(2048, "training examples that the score may look at (validation: all of it)")
    removal: Literal["one-shot", "iterative"] = later(
        "one-shot", "iterative: one section at a time, scored anew, within the one fine-tuning budget"
    )
    distill: Fraction = later(0.0, "weight of distillation from the dense network (temperature 4) in fine-tuning")


class CkaSettings(ScoreSettings):
    """CKA layer pruning (Pons et al., ICPR 2024): iterative as published; one-shot is the other form."""

    removal: Literal["one-shot", "iterative"] = describe("iterative", "one section at a time, or all at once")


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
    discriminator_lr: Positive = describe(0.01, "learning rate of the discriminator (SGD, momentum 0.9)")
    faithful: bool = describe(False, "with the four faults of the published code (see the method's file)")


class ByIndexSettings(Settings):
    """Replays a keep list on the trained dense network."""

    keep_list: tuple[Literal[0, 1], ...] | None = describe(
        None, "1 keeps, 0 removes, one number a section; absent: gated's keep list of the same seed"
    )


class ScratchSettings(Settings):
    """Trains gated's final architecture (same seed) from a fresh initialisation (Liu et al., ICLR 2019)."""


class ScratchAtDepthSettings(Settings):
    """Trains an architecture of a given depth, not gated's own, from a fresh initialisation."""

    keep: Literal["matched"] | PositiveInt = describe(
        "matched", "sections: matched (as many as gated kept, same seed) or a number"
    )


METHOD_SETTINGS: dict[str, type[Settings]] = {
    "gated": GatedSettings,
    "sss": SparseStructureSettings,
    "hard-concrete": HardConcreteSettings,
    "stochastic-depth": StochasticDepthSettings,
    "by-index": ByIndexSettings,
    "scratch-e": ScratchSettings,
    "scratch-b": ScratchSettings,
    "scratch-random": ScratchAtDepthSettings,
    "shallower": ScratchAtDepthSettings,
    "cka": CkaSettings,
    "linear-probes": LinearProbeSettings,
    "epsilon-resnet": EpsilonResnetSettings,
    "gal": GalSettings,
}
FAMILY_SETTINGS: dict[str, type[Settings]] = {
    "trained": NoSettings,
    "scores": ScoreSettings,
    "controls": NoSettings,
}


def settings_class(method: str) -> type[Settings]:
    """The settings of a method: its own where it has knobs, else its family's."""
    families = methods.families()
    if method not in families:
        raise ValueError(f"unknown method '{method}' (known: {', '.join(sorted(families))})")
    return METHOD_SETTINGS.get(method, FAMILY_SETTINGS[families[method]])


# --- presets --------------------------------------------------------------------------------------------------


class VariantBlock(Settings):
    """A named departure from a method's main setting."""

    settings: dict[str, Any] = describe({}, "method settings that differ from the method's")
    training: TrainingSettings = describe(TrainingSettings(), "training settings that differ")
    seeds: tuple[Seed, ...] | None = describe(None, "seeds of this variant; absent: the method's")


class MethodBlock(VariantBlock):
    """A method in a dataset or architecture: its main setting (variant `default`) and variants."""

    variants: dict[Slug, VariantBlock] = describe({}, "name of the variant -> what differs")


class ArchBlock(Settings):
    """An architecture of a dataset."""

    model: ModelSettings = describe(ModelSettings(), "what the architecture is asked for")
    training: TrainingSettings = describe(TrainingSettings(), "training settings that differ from the dataset's")
    finetune: FinetuneSettings = describe(FinetuneSettings(), "fine-tuning settings that differ")
    methods: dict[str, MethodBlock] = describe({}, "method settings that differ from the dataset's")
    only: tuple[str, ...] | None = describe(None, "restrict this architecture to these methods")
    seeds: tuple[Seed, ...] | None = describe(None, "seeds of this architecture where a method names none")


class DatasetBlock(Settings):
    """A dataset of a preset."""

    training: TrainingSettings = describe(TrainingSettings(), "training settings that differ from the preset's")
    finetune: FinetuneSettings = describe(FinetuneSettings(), "fine-tuning settings that differ")
    archs: dict[Slug, ArchBlock] = describe({}, "architectures to run")
    methods: dict[str, MethodBlock] = describe({}, "methods to run on every architecture")


class ResourceSettings(Settings):
    """What a run may use; never part of a digest."""

    threads: PositiveInt = describe(1, "CPU threads of one run")
    state_seconds: NonNegative = describe(
        10.0, "least time in seconds between two writes of the resume state, which come at an epoch's end"
    )
    device: str = describe("auto", "auto (a GPU where there is one), cpu, cuda, cuda:N")
    runs_per_gpu: PositiveInt = describe(1, "runs that share a GPU; with more GPUs each run takes a free one")


class DataSettings(Settings):
    """Where data lies; never part of a digest (checksums tell what was read)."""

    root: str | None = describe(None, "folder with the data sets; LAYERPRUNE_DATA goes before it; absent: data/")
    download: bool = describe(True, "may missing data be downloaded")


class Preset(Settings):
    """A whole study: config/<preset>.yaml."""

    description: str = describe("", "one line: what this preset is for and how long it takes")
    seeds: tuple[Seed, ...] = describe((0,), "seeds of every method that names none of its own")
    training: TrainingSettings = describe(TrainingSettings(), "training settings of every run")
    finetune: FinetuneSettings = describe(FinetuneSettings(), "fine-tuning settings of every run")
    datasets: dict[Slug, DatasetBlock] = describe({}, "datasets to run")
    resources: ResourceSettings = describe(ResourceSettings(), "what a run may use")
    data: DataSettings = describe(DataSettings(), "where data lies")

    @model_validator(mode="after")
    def known_names(self) -> "Preset":
        for name, dataset in self.datasets.items():
            if name not in catalog.NAMES:
                raise ValueError(f"datasets.{name}: unknown data set (known: {', '.join(catalog.NAMES)})")
            _check_methods(f"datasets.{name}", dataset.methods)
            for slug, arch in dataset.archs.items():
                where = f"datasets.{name}.archs.{slug}"
                if not arch_file(slug).is_file():
                    raise ValueError(f"{where}: unknown architecture (known: {', '.join(known_archs())})")
                _check_methods(where, arch.methods)
                _check_pairs(where, slug, _methods_of(dataset, arch))
                unknown = set(arch.only or ()) - set(dataset.methods) - set(arch.methods)
                if unknown:
                    raise ValueError(f"{where}.only: method '{sorted(unknown)[0]}' is not among the methods")
        return self


def _check_methods(where: str, blocks: dict[str, MethodBlock]) -> None:
    for method, block in blocks.items():
        try:
            schema = settings_class(method)
        except ValueError as error:
            raise ValueError(f"{where}.methods.{method}: {error}") from None
        if "default" in block.variants:
            raise ValueError(f"{where}.methods.{method}.variants.default: this name means the method's own settings")
        named = {"": block, **{f"variants.{name}.": variant for name, variant in block.variants.items()}}
        for prefix, part in named.items():
            _check_settings(f"{where}.methods.{method}.{prefix}settings", schema, part.settings)


def _check_pairs(where: str, arch: str, slugs: list[str]) -> None:
    for method in slugs:
        lacking = methods.lack(method, arch_file(arch))
        if lacking is not None:
            raise ValueError(f"{where}: '{method}' needs {lacking}; name {arch}'s methods with `only`")


def _check_settings(where: str, schema: type[Settings], values: dict[str, Any]) -> None:
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}{_first_problem(error)}") from None


# --- reading --------------------------------------------------------------------------------------------------


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice, which plain YAML silently overwrites."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=deep)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: key '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_preset(name: str) -> Preset:
    """Read config/<name>.yaml. Raises LayerpruneError with one line naming file and key."""
    path = paths.preset_file(name)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise LayerpruneError(f"{path}: no such preset (known: {known})") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LayerpruneError(f"{path}: not valid YAML: {_one_line(error)}") from None
    return parse_preset(raw, str(path))


def parse_preset(raw: Any, source: str) -> Preset:
    """Validate a preset given as plain data; `source` names it in errors."""
    if not isinstance(raw, dict):
        raise LayerpruneError(f"{source}: a preset must be a mapping of keys")
    try:
        return Preset.model_validate(raw)
    except ValidationError as error:
        raise LayerpruneError(f"{source}: {_first_problem(error).lstrip('.: ')}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = "".join(f".{part}" for part in first["loc"] if not str(part).startswith(("tagged", "constrained")))
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where}: {message}"
    return f"{where}: {message}, not {first['input']!r}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def data_root(preset: Preset) -> Path:
    """Folder with the data sets: LAYERPRUNE_DATA, else `data.root`, else data/."""
    chosen = os.environ.get("LAYERPRUNE_DATA") or preset.data.root
    return Path(chosen) if chosen else paths.data_root()


def environment_below(root: Path, preset: Preset) -> dict[str, str]:
    """The environment of a process that keeps all its files below another root and reads the same data."""
    changes = {"LAYERPRUNE_ROOT": root, "LAYERPRUNE_DATA": data_root(preset)}
    return os.environ | {name: str(folder.resolve()) for name, folder in changes.items()}


# --- runs -----------------------------------------------------------------------------------------------------


class RunSettings(Settings):
    """One run's complete science settings; what the digest covers."""

    dataset: str
    arch: str
    method: str
    seed: Seed
    training: TrainingSettings
    finetune: FinetuneSettings
    settings: dict[str, Any]
    model: ModelSettings = later(ModelSettings(), "what the architecture is asked for")

    def method_settings(self) -> Any:
        """The method's settings as their typed class."""
        return settings_class(self.method).model_validate(self.settings)

    def science(self) -> dict[str, Any]:
        """What decides the result, as plain data: everything but later settings at their default."""
        return _without_later_defaults(self) | {"settings": _without_later_defaults(self.method_settings())}

    def digest(self) -> str:
        """SHA-256 of the settings' canonical JSON (first 16 hexadecimal digits)."""
        text = json.dumps(self.science(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_later_defaults(settings: Settings) -> dict[str, Any]:
    plain = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if (field.json_schema_extra or {}).get("later") and value == field.default:
            del plain[name]
        elif isinstance(value, Settings):
            plain[name] = _without_later_defaults(value)
    return plain


def plan(preset: Preset, name: str, dataset: str | None = None) -> list[RunKey]:
    """Every run of a preset (of one dataset), base runs before those that start from them."""
    keys = [key for each in ([dataset] if dataset else preset.datasets) for key in _dataset_runs(preset, name, each)]
    order = {key: index for index, key in enumerate(keys)}
    return sorted(keys, key=lambda key: (len(prerequisites(preset, key)), order[key]))


def _dataset_runs(preset: Preset, name: str, dataset: str) -> Iterator[RunKey]:
    block = _dataset(preset, name, dataset)
    for arch_slug, arch in block.archs.items():
        for method in _methods_of(block, arch):
            for variant in ("default", *_variants(block, arch, method)):
                for seed in _seeds(preset, block, arch, method, variant):
                    yield RunKey(name, dataset, arch_slug, method, variant, seed)


def _methods_of(block: DatasetBlock, arch: ArchBlock) -> list[str]:
    named = list(dict.fromkeys([*block.methods, *arch.methods]))
    return [method for method in named if arch.only is None or method in arch.only]


def _blocks(block: DatasetBlock, arch: ArchBlock, method: str) -> list[MethodBlock]:
    """The blocks that speak of a method, general first."""
    return [each[method] for each in (block.methods, arch.methods) if method in each]


def _variants(block: DatasetBlock, arch: ArchBlock, method: str) -> list[str]:
    return list(dict.fromkeys(name for each in _blocks(block, arch, method) for name in each.variants))


def _layers(block: DatasetBlock, arch: ArchBlock, method: str, variant: str) -> list[VariantBlock]:
    blocks = _blocks(block, arch, method)
    return [*blocks, *(each.variants[variant] for each in blocks if variant in each.variants)]


def _seeds(preset: Preset, block: DatasetBlock, arch: ArchBlock, method: str, variant: str) -> tuple[int, ...]:
    named = [layer.seeds for layer in _layers(block, arch, method, variant) if layer.seeds is not None]
    return named[-1] if named else arch.seeds or preset.seeds


def _dataset(preset: Preset, name: str, dataset: str) -> DatasetBlock:
    if dataset not in preset.datasets:
        known = ", ".join(preset.datasets) or "none"
        raise LayerpruneError(f"{paths.preset_file(name)}: datasets: '{dataset}' is not in this preset (has: {known})")
    return preset.datasets[dataset]


def resolve(preset: Preset, key: RunKey) -> RunSettings:
    """The complete settings of one run; the run's seed need not be in the plan.

    Raises LayerpruneError when the preset has no such dataset, architecture, method or variant.
    """
    block = _dataset(preset, key.preset, key.dataset)
    where = f"{paths.preset_file(key.preset)}: datasets.{key.dataset}"
    if key.arch not in block.archs:
        raise LayerpruneError(f"{where}.archs: '{key.arch}' is not in this preset (has: {', '.join(block.archs)})")
    arch = block.archs[key.arch]
    available = _methods_of(block, arch)
    if key.method not in available:
        raise LayerpruneError(f"{where}.methods: '{key.method}' is not run on {key.arch} (has: {', '.join(available)})")
    variants = _variants(block, arch, key.method)
    if key.variant not in ("default", *variants):
        known = ", ".join(["default", *variants])
        raise LayerpruneError(f"{where}.methods.{key.method}.variants: no '{key.variant}' (has: {known})")
    layers = _layers(block, arch, key.method, key.variant)
    values = {name: value for layer in layers for name, value in layer.settings.items()}
    try:
        return RunSettings(
            dataset=key.dataset,
            arch=key.arch,
            method=key.method,
            seed=key.seed,
            training=_merge(TrainingSettings, [preset, block, arch, *layers], "training"),
            finetune=_merge(FinetuneSettings, [preset, block, arch], "finetune"),
            settings=settings_class(key.method).model_validate(values).model_dump(mode="json"),
            model=arch.model,
        )
    except ValidationError as error:
        raise LayerpruneError(f"{where}.methods.{key.method}: {_first_problem(error).lstrip('.: ')}") from None


def _merge(schema: type[Settings], layers: list[Settings], field: str) -> Any:
    """Later layers win; a layer only speaks through the keys it names."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= getattr(layer, field).model_dump(exclude_unset=True)
    return schema.model_validate(merged)


def prerequisites(preset: Preset, key: RunKey) -> list[RunKey]:
    """The runs whose weights or keep list this run starts from (same seed, variant `default`)."""
    settings = resolve(preset, key).method_settings()
    dense, gated = (RunKey(key.preset, key.dataset, key.arch, each, "default", key.seed) for each in ("dense", "gated"))
    needed = []
    if isinstance(settings, (ScoreSettings, ByIndexSettings)) or getattr(settings, "starts_from_dense", False):
        needed.append(dense)
    matched = getattr(settings, "keep", None) == "matched" and getattr(settings, "threshold", None) is None
    replayed = isinstance(settings, ByIndexSettings) and settings.keep_list is None
    if matched or replayed or isinstance(settings, ScratchSettings):
        needed.append(gated)
    return needed


def steps_of(duration: str, steps_per_epoch: int) -> int:
    """A duration in optimizer steps."""
    count = int(duration[:-2])
    return count * steps_per_epoch if duration.endswith("ep") else count
