"""A preset as it is written in config/<name>.yaml: datasets, their architectures and methods, and what they may use."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from layerprune.core import methods
from layerprune.core.data import catalog
from layerprune.core.methods import settings_class
from layerprune.core.networks import arch_file, known_archs, number_problem
from layerprune.core.settings.training import FinetuneSettings, ModelSettings, TrainingSettings
from layerprune.core.settings.types import (
    Count,
    NonNegative,
    PositiveInt,
    Seeds,
    Settings,
    Several,
    Slug,
    StudyName,
    describe,
    first_problem,
)
from layerprune.core.version import dataset_file, version_in
from layerprune.system.cpu import CpuKernels


class VariantBlock(Settings):
    """A named departure from a method's main setting."""

    settings: dict[str, Any] = describe({}, "method settings that differ from the method's")
    training: TrainingSettings = describe(TrainingSettings(), "training settings that differ")
    finetune: FinetuneSettings = describe(FinetuneSettings(), "fine-tuning settings that differ")
    model: ModelSettings = describe(ModelSettings(), "settings of the architecture, if they differ")
    seeds: Seeds | None = describe(None, "seeds of this variant; absent: the method's")


class MethodBlock(VariantBlock):
    """A method in a dataset or architecture: its main setting (variant `default`) and variants."""

    variants: dict[Slug, VariantBlock] = describe({}, "name of the variant -> what differs")


class ArchBlock(Settings):
    """An architecture of a dataset."""

    model: ModelSettings = describe(ModelSettings(), "settings of the architecture")
    training: TrainingSettings = describe(TrainingSettings(), "training settings that differ from the dataset's")
    finetune: FinetuneSettings = describe(FinetuneSettings(), "fine-tuning settings that differ")
    methods: dict[str, MethodBlock] = describe({}, "method settings that differ from the dataset's")
    only: Annotated[tuple[str, ...], Several, Field(min_length=1)] | None = describe(
        None, "restrict this architecture to these methods"
    )
    seeds: Seeds | None = describe(None, "seeds of this architecture where a method names none")


class DatasetBlock(Settings):
    """A dataset of a preset."""

    source: str | None = describe(
        None, "which form of the data set, by what its records call it; absent: what is there"
    )
    decoder: Literal["pil", "torchvision"] = describe(
        "pil", "what decodes and scales images that stay in their files: torchvision takes less time, rounds otherwise"
    )
    processes: PositiveInt | None = describe(None, "processes that share a run; absent: resources.processes")
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
    device: str = describe("auto", "auto (a GPU if there is one), cpu, cuda, cuda:N")
    runs_per_gpu: PositiveInt = describe(1, "runs that share a GPU; with more GPUs each run takes a free one")
    workers: Count = describe(0, "processes of one run that decode images, where these do not fit into memory")
    processes: PositiveInt = describe(1, "processes that share a run, each with a device: torchrun starts them")
    cpu_kernels: CpuKernels = describe(
        "native", "native: the fastest of the CPU; avx2: no AVX-512, so that more machines make the same numbers"
    )


class DataSettings(Settings):
    """Where data lies; never part of a digest (checksums tell what was read)."""

    root: str | None = describe(None, "folder with the data sets; LAYERPRUNE_DATA goes before it; absent: data/")
    download: bool = describe(True, "may missing data be downloaded")
    bad_images: Literal["stop", "skip"] = describe(
        "stop", "what a damaged image does: stop the run, or be left out, named and counted in the record"
    )


class Preset(Settings):
    """A whole study: config/<preset>.yaml."""

    description: str = describe("", "one line: what this preset is for and how long it takes")
    decides: bool = describe(True, "whether its records say anything of the paper's claims")
    evidence: Annotated[tuple[StudyName, ...], Several] = describe(
        (), "presets, or PRESET/DATASET, whose runs its ledger of claims counts, too, as far as they are made"
    )
    seeds: Seeds = describe((0,), "seeds of every method that names none of its own")
    training: TrainingSettings = describe(TrainingSettings(), "training settings of every run")
    finetune: FinetuneSettings = describe(FinetuneSettings(), "fine-tuning settings of every run")
    datasets: dict[Slug, DatasetBlock] = describe({}, "datasets to run")
    resources: ResourceSettings = describe(ResourceSettings(), "what a run may use")
    data: DataSettings = describe(DataSettings(), "where data lies")

    def processes(self, dataset: str) -> int:
        """How many processes share a run on a data set, each with a device."""
        return self.datasets[dataset].processes or self.resources.processes

    @model_validator(mode="after")
    def known_names(self) -> "Preset":
        if not self.datasets:
            raise ValueError("datasets: a preset needs one at least")
        for name, dataset in self.datasets.items():
            if name not in catalog.NAMES:
                raise ValueError(f"datasets.{name}: unknown data set (known: {', '.join(catalog.NAMES)})")
            version_in(dataset_file(name))
            known = [source for form in catalog.forms(name) for source in form.sources]
            if dataset.source is not None and dataset.source not in known:
                raise ValueError(f"datasets.{name}.source: '{dataset.source}' is unknown (known: {', '.join(known)})")
            _check_methods(f"datasets.{name}", dataset.methods)
            for slug, arch in dataset.archs.items():
                where = f"datasets.{name}.archs.{slug}"
                if not arch_file(slug).is_file():
                    raise ValueError(f"{where}: unknown architecture (known: {', '.join(known_archs())})")
                if (problem := number_problem(slug)) is not None:
                    raise ValueError(f"{where}: {problem}")
                version_in(arch_file(slug))
                _check_methods(where, arch.methods)
                _check_pairs(where, slug, methods_of(dataset, arch))
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
        version_in(methods.method_file(method))
        methods.check(method)
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
        raise ValueError(f"{where}{first_problem(error)}") from None


def methods_of(block: DatasetBlock, arch: ArchBlock) -> list[str]:
    """Methods that are run on an architecture of a dataset, in their order."""
    named = list(dict.fromkeys([*block.methods, *arch.methods]))
    return [method for method in named if arch.only is None or method in arch.only]
