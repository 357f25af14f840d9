"""One run's record: what it reached, what it cost, and where it comes from. Imports no torch.

A record carries the SHA-256 of the run's other files and a checksum of itself: altered files are refused.
Units: accuracies in [0, 1]; MACs as multiply-adds of one input (1 MAC = 2 FLOPs); `train_macs` are multiply-adds of
the whole training, forward and backward (forward x 3), with alive sections only.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticSerializationError

from layerprune.errors import LayerpruneError
from layerprune.system import files
from layerprune.system.files import sha256
from layerprune.system.paths import RunKey

Status = Literal["ok", "diverged", "collapsed", "unpruned", "failed"]
Accuracy = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**100)]
"""Bounded, so that shares and sums of counts are floats."""
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a text with characters that print nothing")
    return text


Text = Annotated[str, Field(max_length=2000), AfterValidator(_printable)]
"""What tables and figures show."""


def _named_parts(config: dict[str, Any]) -> dict[str, Any]:
    odd = next((name for name in ("training", "settings", "model") if not isinstance(config.get(name, {}), dict)), None)
    if odd is not None:
        raise ValueError(f"{odd}: not a mapping of settings")
    return config


VOLATILE = ("wall_seconds", "energy", "memory", "gpu_memory", "finished_at", "resumed", "checksum")
"""Fields that differ between two otherwise equal runs; everything else is bit-equal on one machine."""
IF_MEASURED = ("energy_joules", "energy_joules_own", "memory_bytes", "gpu_memory_bytes")
"""Fields that a record has no word of where the machine does not tell, as before there were any."""
LARGEST_GAP = 1e-4
"""Largest difference of float32 logits between the gated network and the smaller one, in a run that is sound."""
LATER = ("val_top5_accuracy", "test_top5_accuracy")
"""Fields added after results were recorded: absent, they stay out of the digest, so that records stay current."""


class Provenance(BaseModel):
    """Where a record comes from: code, settings, data, libraries, machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str | None = Field(description="git commit of the code, if the code is in a git checkout")
    dirty_digest: str | None = Field(description="digest of the uncommitted change, null for a clean checkout")
    versions: dict[str, int] = Field(
        description="versions of what decides the numbers: results, dataset, arch, method (see layerprune.core.version)"
    )
    config_digest: str = Field(description="digest of the resolved settings")
    config: Annotated[dict[str, Any], AfterValidator(_named_parts)] = Field(description="the resolved settings")
    data_checksums: dict[str, str] = Field(description="SHA-256 of the data read and of the split's indices")
    lock_digest: str | None = Field(description="digest of requirements.lock, if it was available")
    parents: dict[str, str] = Field(description="runs that this one starts from -> digest of their record")
    python: Text
    torch: Text
    cuda: Text | None
    gpu: Text | None
    cpu: Text
    threads: int = Field(ge=1, description="CPU threads of the run, of each process where several share it")
    processes: int = Field(default=1, ge=1, description="processes that shared the run, each with a device")
    cpu_kernels: Text | None = Field(
        default=None, description="instructions that torch's CPU kernels used: AVX2, AVX512, ...; null: not noted"
    )
    lanes: int | None = Field(
        default=None,
        ge=1,
        description="runs that the process made at a time, which share its device, so that its wall times tell little; "
        "absent: this one alone",
    )

    @model_serializer(mode="wrap")
    def _without_absent_lanes(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Records made before there were lanes keep their text, and with it their checksums."""
        told = serialise(self)
        return told if self.lanes is not None else {name: value for name, value in told.items() if name != "lanes"}


class Files(BaseModel):
    """SHA-256 of a run's files, null for one that was never written or has not been kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arch: str | None = None
    curves: str | None = None
    weights: str | None = None


class Record(BaseModel):
    """The content of record.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    dataset: str = Field(description="slug of the data set: digits, mnist")
    data_source: Text = Field(description="what the images really are")
    arch: str
    method: str
    variant: str
    seed: Count
    status: Status
    reason: Text | None = Field(default=None, description="one line: why the status is not ok")
    val_accuracy: Accuracy | None = Field(description="validation accuracy after the last epoch")
    test_accuracy: Accuracy | None = Field(description="test accuracy, read once, after the last epoch")
    val_top5_accuracy: Accuracy | None = Field(default=None, description="null: few classes, or no accuracy")
    test_top5_accuracy: Accuracy | None = Field(
        default=None, description="share of test images whose class is among the five likeliest"
    )
    val_accuracy_before_finetune: Accuracy | None = None
    test_accuracy_before_finetune: Accuracy | None = Field(default=None, description="null: the test set is read once")
    depth: Count = Field(description="weight layers on the longest path of the pruned network")
    depth_dense: Count
    sections_total: Count
    keep: list[Literal[0, 1]] = Field(description="1: the section is left, 0: it went")
    removed_step: list[int | None] = Field(description="optimizer step at which each section went, null if it stayed")
    steps_total: Count = Field(description="optimizer steps of the run itself, without its parents'")
    macs: Count = Field(description="multiply-adds of one input through the pruned network")
    params: Count
    macs_dense: Annotated[Count, Field(ge=1)]
    params_dense: Annotated[Count, Field(ge=1)]
    train_macs: Count = Field(description="multiply-adds of training, parents and fine-tuning and scoring included")
    train_macs_own: Count = Field(description="the same without the parents")
    epochs: Amount = Field(description="epochs of the run itself")
    wall_seconds: Amount = Field(description="wall time of training, parents included, evaluation not")
    wall_seconds_own: Amount = Field(description="the same without the parents")
    energy_joules: Amount | None = Field(
        default=None,
        description="estimated energy of training, the dense parent's and evaluations in between included: on a CPU of "
        "packages and memory, by the run's share of CPU time; on a GPU of the board. Absent: not measured",
    )
    energy_joules_own: Amount | None = Field(default=None, description="the same without the parent's")
    memory_bytes: Count | None = Field(
        default=None, description="the most memory that the run's process held; absent: not measured"
    )
    gpu_memory_bytes: Count | None = Field(
        default=None, description="the most memory that torch took of the GPU; absent: none, or not measured"
    )
    device: Text
    equivalence_gap: float | None = Field(
        description="largest |difference of logits| between the gated network and the smaller one"
    )
    details: dict[str, Any] = Field(default={}, description="what only this method knows, such as its final gates")
    finished_at: Text = Field(description="UTC time, ISO 8601")
    resumed: Count = Field(default=0, description="how often the run was taken up from saved state")
    files: Files = Field(description="the run's other files")
    provenance: Provenance
    checksum: str = Field(default="", description="SHA-256 of all the other fields")

    @model_serializer(mode="wrap")
    def _without_what_was_not_measured(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Records of machines that do not measure it do not mention it, as before it was recorded."""
        told = serialise(self)
        return {name: value for name, value in told.items() if value is not None or name not in IF_MEASURED}

    @model_validator(mode="after")
    def one_entry_a_section(self) -> "Record":
        for name in ("keep", "removed_step"):
            if len(getattr(self, name)) != self.sections_total:
                raise ValueError(f"{name}: {len(getattr(self, name))} entries for {self.sections_total} sections")
        return self

    @property
    def key(self) -> RunKey:
        """The run that this is the record of."""
        return RunKey(self.preset, self.dataset, self.arch, self.method, self.variant, self.seed)

    def plain(self) -> dict[str, Any]:
        """The record as plain data. Raises LayerpruneError for details that are nested too deeply."""
        try:
            return self.model_dump(mode="json")
        except PydanticSerializationError:
            raise LayerpruneError(f"{self.key}: details: nested too deeply") from None

    def comparable(self) -> dict[str, Any]:
        """The record as plain data without what differs between equal runs: times, which curves.csv has too, and lanes,
        which change nothing else.
        """
        data = self.plain()
        del data["files"]["curves"]
        data["provenance"].pop("lanes", None)
        absent = {name for name in LATER if data[name] is None}
        return {name: value for name, value in data.items() if not name.startswith(VOLATILE) and name not in absent}

    def digest(self) -> str:
        """Digest of the run's results and of what determined them (first 16 hexadecimal digits).

        Commit, libraries, machine and files stay out: an equal run on another day has an equal digest.
        """
        data = self.comparable()
        deciding = ("versions", "config_digest", "data_checksums", "parents")
        data["provenance"] = {name: data["provenance"][name] for name in deciding}
        del data["files"]
        return sha256(json.dumps(data, sort_keys=True).encode())[:16]

    def sealed(self) -> "Record":
        """The record with the checksum of what it says now."""
        return self.model_copy(update={"checksum": checksum_of(self.plain())})


def checksum_of(data: dict[str, Any]) -> str:
    """SHA-256 of a record as plain data, whatever its own checksum."""
    told = {name: value for name, value in data.items() if name != "checksum"}
    return sha256(json.dumps(told, sort_keys=True, allow_nan=False).encode())


def write(path: Path, record: Record) -> Record:
    """Write a record atomically, with its checksum; returns what was written."""
    sealed = record.sealed()
    files.write_json(path, sealed.plain())
    return sealed


def read(path: Path) -> Record:
    """Read and check a record. Raises LayerpruneError with one line naming file and field."""
    return parsed(files.read_json(path), str(path))


def parsed(raw: Any, source: str) -> Record:
    """A record from plain data; `source` names it in errors. Raises LayerpruneError for an invalid or altered one."""
    try:
        record = Record.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:80] for part in first["loc"]) or "record"
        raise LayerpruneError(f"{source}: {field}: {first['msg']}") from None
    try:
        altered = record.checksum != checksum_of(raw)
    except ValueError:  # JSON has words for numbers that are none, and 1e999
        raise LayerpruneError(f"{source}: holds a number that is not finite") from None
    if altered:
        raise LayerpruneError(f"{source}: altered since it was written: its checksum does not fit")
    return record
