"""From a preset to its runs: which exist, their settings, and the runs that they start from."""

import hashlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from layerprune.core.data import catalog
from layerprune.core.methods import settings_class
from layerprune.core.settings.methods import ByIndexSettings, ScoreSettings, ScratchSettings
from layerprune.core.settings.training import FinetuneSettings, ModelSettings, TrainingSettings, views_problem
from layerprune.core.settings.types import Seed, Settings, first_problem, later
from layerprune.errors import LayerpruneError
from layerprune.suite.config.preset import ArchBlock, DatasetBlock, MethodBlock, Preset, VariantBlock, methods_of
from layerprune.system import paths
from layerprune.system.paths import RunKey


class RunSettings(Settings):
    """One run's complete science settings; what the digest covers."""

    dataset: str
    arch: str
    method: str
    seed: Seed
    training: TrainingSettings
    finetune: FinetuneSettings
    settings: dict[str, Any]
    model: ModelSettings = later(ModelSettings(), "settings of the architecture")
    source: str | None = later(None, "which form of the data set")
    decoder: str = later("pil", "what decodes and scales images that stay in their files")

    def method_settings(self) -> Any:
        """The method's settings as their typed class."""
        return settings_class(self.method).model_validate(self.settings)

    def science(self) -> dict[str, Any]:
        """What decides the result, as plain data: everything but later settings that change nothing."""
        return _without_later(self) | {"settings": _without_later(self.method_settings())}

    @classmethod
    def of_record(cls, config: dict[str, Any]) -> "RunSettings":
        """The settings in a record. Method settings that came later stand at what they were before."""
        given = cls.model_validate(config)
        fields = settings_class(given.method).model_fields.items()
        before = {name: field.json_schema_extra["before"] for name, field in fields if "before" in _extra(field)}
        return given.model_copy(update={"settings": before | given.settings})

    def digest(self) -> str:
        """SHA-256 of the settings' canonical JSON (first 16 hexadecimal digits)."""
        text = json.dumps(self.science(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra or {}


def _without_later(settings: Settings) -> dict[str, Any]:
    plain = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if _extra(field).get("later") and value == _extra(field).get("before", field.default):
            del plain[name]
        elif isinstance(value, Settings):
            plain[name] = _without_later(value)
    return plain


def plan(preset: Preset, name: str, dataset: str | None = None) -> list[RunKey]:
    """Every run of a preset (of one dataset), base runs before those that start from them."""
    keys = [key for each in ([dataset] if dataset else preset.datasets) for key in _dataset_runs(preset, name, each)]
    order = {key: index for index, key in enumerate(keys)}
    return sorted(keys, key=lambda key: (len(prerequisites(preset, key)), order[key]))


def _dataset_runs(preset: Preset, name: str, dataset: str) -> Iterator[RunKey]:
    block = _dataset(preset, name, dataset)
    for arch_slug, arch in block.archs.items():
        for method in methods_of(block, arch):
            for variant in ("default", *_variants(block, arch, method)):
                for seed in _seeds(preset, block, arch, method, variant):
                    yield RunKey(name, dataset, arch_slug, method, variant, seed)


def datasets_with_runs(preset: Preset, name: str, asked: list[str]) -> list[str]:
    """The data sets, of those asked for, on which the preset plans runs. Raises LayerpruneError if there are none."""
    found = [dataset for dataset in asked if any(_dataset_runs(preset, name, dataset))]
    if not found:
        named = ", ".join(f"datasets.{dataset}" for dataset in asked)
        raise LayerpruneError(f"{paths.preset_file(name)}: {named}: {NO_RUNS}")
    return found


NO_RUNS = "no run is planned: name networks (archs) and methods"


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
    available = methods_of(block, arch)
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
            finetune=_merge(FinetuneSettings, [preset, block, arch, *layers], "finetune"),
            settings=settings_class(key.method).model_validate(values).model_dump(mode="json"),
            model=_merge(ModelSettings, [arch, *layers], "model"),
            source=block.source,
            decoder=block.decoder,
        )
    except ValidationError as error:
        raise LayerpruneError(f"{where}.methods.{key.method}: {first_problem(error).lstrip('.: ')}") from None


def _merge(schema: type[Settings], layers: list[Settings], field: str) -> Any:
    """Later layers win; a layer affects only the keys it names."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= getattr(layer, field).model_dump(exclude_unset=True)
    return schema.model_validate(merged)


def prerequisites(preset: Preset, key: RunKey) -> list[RunKey]:
    """The runs that this run starts from (same seed, variant `default`): by their weights, or by their keep list."""
    settings = resolve(preset, key).method_settings()
    matched = getattr(settings, "keep", None) == "matched" and getattr(settings, "threshold", None) is None
    replayed = isinstance(settings, ByIndexSettings) and settings.keep_list is None
    from_gated = matched or replayed or isinstance(settings, ScratchSettings)
    return [*weight_prerequisites(preset, key), *([_default(key, "gated")] if from_gated else [])]


def weight_prerequisites(preset: Preset, key: RunKey) -> list[RunKey]:
    """Those of them whose weights the run needs, not their records alone."""
    settings = resolve(preset, key).method_settings()
    from_dense = isinstance(settings, (ScoreSettings, ByIndexSettings)) or getattr(settings, "starts_from_dense", False)
    return [_default(key, "dense")] if from_dense else []


def _default(key: RunKey, method: str) -> RunKey:
    return RunKey(key.preset, key.dataset, key.arch, method, "default", key.seed)


# --- what only the whole shows --------------------------------------------------------------------------------------


def check_runs(preset: Preset, name: str) -> None:
    """Raises LayerpruneError naming the method whose runs cannot be made: they start from runs that no method makes,
    would warm up for longer than they train, or augment otherwise than they say. So are more runs than anybody makes.
    """
    if (count := sum(1 for _ in itertools.islice(_slugs(preset), MOST_RUNS + 1))) > MOST_RUNS:
        raise LayerpruneError(f"{paths.preset_file(name)}: more than {count - 1:,} runs")
    for dataset, block in preset.datasets.items():
        for arch_slug, arch in block.archs.items():
            for method in methods_of(block, arch):
                for variant in ("default", *_variants(block, arch, method)):
                    key = RunKey(name, dataset, arch_slug, method, variant, 0)
                    where = f"{paths.preset_file(name)}: datasets.{dataset}.archs.{arch_slug}"
                    _check_bases(f"{where}: {method}", prerequisites(preset, key), methods_of(block, arch))
                    named = {key for layer in _layers(block, arch, method, variant) for key in layer.settings}
                    run = resolve(preset, key)
                    _check_warm_ups(f"{where}: {method} ({variant})", run, named)
                    _check_views(f"{where}: {method} ({variant})", run)


MOST_RUNS = 200_000
"""Of a preset."""


def _slugs(preset: Preset) -> Iterator[tuple]:
    """Something for each run, without its settings."""
    for block in preset.datasets.values():
        for arch in block.archs.values():
            for method in methods_of(block, arch):
                yield from itertools.product(("default", *_variants(block, arch, method)), preset.seeds)


def _check_bases(where: str, bases: list[RunKey], available: list[str]) -> None:
    lacking = next((base.method for base in bases if base.method not in available), None)
    if lacking is not None:
        raise LayerpruneError(f"{where}: starts from {lacking}, which is not among the methods")


def _check_warm_ups(where: str, run: RunSettings, named: set[str]) -> None:
    """Gated's warm-up only if it is named: the default is longer than the shortest trainings."""
    total = run.training.duration
    warm_ups = {"training.lr_warmup": run.training.lr_warmup}
    warm_ups |= {"settings.warmup": run.settings["warmup"]} if "warmup" in named else {}
    for key, each in warm_ups.items():
        if each[-2:] == total[-2:] and int(each[:-2]) > int(total[:-2]):
            raise LayerpruneError(f"{where}: {key}: {each} is longer than training ({total})")


def _check_views(where: str, run: RunSettings) -> None:
    views = run.training
    problem = views_problem(views.augment, views.crop, views.flip)
    if views.augment == "resized-crop" and all(form.in_memory for form in catalog.asked_forms(run.dataset, run.source)):
        problem = f"training.augment: resized-crop is for streamed images, and those of {run.dataset} are in memory"
    if problem is not None:
        raise LayerpruneError(f"{where}: {problem}")
