"""Before a run trains: what the preset asks for, the runs it starts from, the device it may use, its task, and where
its record comes from."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from layerprune.core.data.dataset import DataSet
from layerprune.core.data.loading import Reading, load
from layerprune.core.methods import entry_point
from layerprune.core.networks import storage
from layerprune.core.networks.sections import SectionedNetwork
from layerprune.core.training.state import StateFile
from layerprune.core.version import versions_of
from layerprune.errors import LayerpruneError
from layerprune.suite import config, current, store
from layerprune.suite.config import Preset, RunSettings
from layerprune.suite.record import Provenance, Record
from layerprune.suite.run.task import Parent, Report, Task, WeightsFile
from layerprune.system import files, paths, processes
from layerprune.system.cpu import cpu_name
from layerprune.system.devices import borrowed, choose_device
from layerprune.system.files import sha256
from layerprune.system.paths import RunKey
from layerprune.system.process_group import SINGLE_PROCESS, ProcessGroup, joined
from layerprune.system.processes import Notice, noticed, output_of


@dataclass(frozen=True)
class Lane:
    """What a run needs that is made in a thread, beside other runs in the same process: see suite.campaign.

    The device is the process's already, and the thread has a stream of its own on it.
    """

    device: torch.device
    notice: Notice
    load: Callable[..., DataSet]
    """As core.data.load; data sets are shared by all runs of the process."""
    count: int
    """Lanes of the process."""


@dataclass(frozen=True)
class Caller:
    """Who asks for runs: the device and threads they get, where they report, and the processes that share them."""

    device: str
    threads: int
    report: Report
    say: Callable[[str], None]
    group: ProcessGroup
    weights: Path | None = None
    """A file that the dense network is read from instead of being trained."""
    lane: Lane | None = None
    records: bool = True
    """Whether steps are recorded where the engine does so."""


@dataclass(frozen=True)
class Request:
    """A run as its preset and its caller ask for it."""

    preset: Preset
    key: RunKey
    settings: RunSettings
    parents: list[RunKey]
    weights: WeightsFile | None

    def current(self, say: Callable[[str], None]) -> Record | None:
        """The record in the run's folder, if that is current and all its files are whole.

        Raises LayerpruneError for a record that was altered.
        """
        if not all(path(self.key).is_file() for path in (paths.record, paths.arch, paths.curves, paths.weights)):
            return None
        made = store.find(self.key)
        same_weights = _checksums(self.weights).items() <= made.provenance.data_checksums.items()
        if not (same_weights and current.is_current(self.preset, made, self.settings)):
            return None
        damage = current.damage(self.key, made)
        if damage is not None:
            say(f"{damage}; the run is made again")
        return made if damage is None else None


def request(preset: Preset, key: RunKey, weights: Path | None) -> Request:
    """Raises LayerpruneError for a run that the preset does not have, for weights that cannot be read, and for a method
    whose file does not define it.
    """
    settings = config.resolve(preset, key)
    entry_point(settings.method)  # before hours of training that it starts from
    given = weights if key.method == "dense" else None
    if given is not None:
        settings = settings.model_copy(update={"settings": settings.settings | {"weights": given.name}})
    file = _weights_file(settings, given.parent if given else config.data_root(preset))
    return Request(preset, key, settings, config.prerequisites(preset, key), file)


def _weights_file(settings: RunSettings, folder: Path) -> WeightsFile | None:
    """The file that a run's settings name, in `folder` unless its path is absolute; None for a run that trains."""
    name = getattr(settings.method_settings(), "weights", None)
    if name is None:
        return None
    path = folder / name
    return WeightsFile(path, sha256(files.read_regular(path, files.LARGEST_WEIGHTS)))


def is_there(preset: Preset, key: RunKey, parent: RunKey) -> bool:
    """Whether a parent has what a run starts from: a record, and weights where it needs them."""
    needs_weights = parent in config.weight_prerequisites(preset, key)
    return store.exists(parent) and (not needs_weights or store.weights(parent) is not None)


# --- processes and devices ------------------------------------------------------------------------------------------


@contextmanager
def process_group(preset: Preset, name: str, say: Callable[[str], None]) -> Iterator[ProcessGroup]:
    """The processes that torchrun started, each with the GPU of its number; or this one alone, still without a GPU."""
    place = processes.torchrun_place()
    if place is None or place.size == 1:
        yield SINGLE_PROCESS
        return
    device = choose_device(name)
    with ExitStack() as held:
        if device.type == "cuda":
            if place.local_rank == 0:  # one for all and in this order: two such runs never wait for each other
                for index in range(place.local_size):
                    gpu = choose_device(f"cuda:{index}")
                    held.enter_context(borrowed(gpu, preset.resources.runs_per_gpu, say))
            device = choose_device(f"cuda:{place.local_rank}")
            torch.cuda.set_device(device)
        yield held.enter_context(joined(place, device))


def threads_of_a_process(threads: int | None) -> int | None:
    """This process's part of a run's threads."""
    place = processes.torchrun_place()
    return threads if threads is None or place is None else max(1, threads // place.local_size)


def lent_device(preset: Preset, caller: Caller) -> AbstractContextManager[torch.device]:
    """The device to compute on: for a process alone a GPU with a free place, for one of several its own."""
    if caller.lane is not None:
        return nullcontext(caller.lane.device)
    if caller.group.size > 1:
        return nullcontext(caller.group.device)
    return borrowed(choose_device(caller.device), preset.resources.runs_per_gpu, caller.say)


def notice_of(caller: Caller) -> AbstractContextManager[Notice]:
    """What tells the run to end: its process's signals, or whoever opened the lanes."""
    return noticed() if caller.lane is None else nullcontext(caller.lane.notice)


def check_engine(engine: str, device: torch.device) -> None:
    """Fail before training where torch.compile does not work. Raises LayerpruneError."""
    if engine != "compiled":
        return
    from layerprune.core.training import compiled  # here, as it takes a second or two

    try:
        compiled.check(device)
    except RuntimeError as error:  # of torch's own kinds, which all derive from it
        raise LayerpruneError(
            "training.engine: compiled does not work here (on a CPU it needs a C++ compiler), use eager: "
            + " ".join(str(error).split())[:200]
        ) from None


# --- the task -------------------------------------------------------------------------------------------------------


def task_of(asked: Request, device: torch.device, caller: Caller, notice: Notice) -> Task:
    """Data loaded, parents found. Raises LayerpruneError for parents that were trained on other data."""
    preset, key, settings = asked.preset, asked.key, asked.settings
    parents = {each.method: _parent(each) for each in asked.parents}
    loader = load if caller.lane is None else caller.lane.load
    data = loader(key.dataset, config.data_root(preset), device, reading(preset, key.dataset))
    for parent in parents.values():
        if current.of_data(parent.record.provenance.data_checksums) != data.checksums:
            raise LayerpruneError(
                f"{key}: its parent run {parent.record.key} was trained on other data "
                f"({parent.record.data_source}) than there is now ({data.source})"
            )
    state = StateFile(paths.state(key), _identity(asked, parents), preset.resources.state_seconds)
    shared = {"records": caller.records, "lanes": None if caller.lane is None else caller.lane.count}
    return Task(settings, data, device, parents, state, caller.report, notice, caller.group, asked.weights, **shared)


def reading(preset: Preset, dataset: str) -> Reading:
    """How a preset's runs read a data set."""
    block = preset.datasets[dataset]
    return Reading(block.source, preset.resources.workers, preset.data.bad_images, block.decoder)


def _parent(key: RunKey) -> Parent:
    return Parent(store.find(key), lambda: _network_of(key))


def _network_of(key: RunKey) -> SectionedNetwork:
    path = store.weights(key)
    if path is None:
        raise LayerpruneError(f"{key}: no weights are there to start from")
    network = storage.described(store.arch(key), paths.arch(key))
    storage.load_weights(network, path)
    return network


def _identity(asked: Request, parents: dict[str, Parent]) -> str:
    """What ties a stored state to its run."""
    versions = json.dumps(versions_of(asked.key.dataset, asked.key.arch, asked.key.method))
    return "/".join([versions, asked.settings.digest(), *(parent.record.digest() for parent in parents.values())])


# --- where it comes from --------------------------------------------------------------------------------------------

_REPOSITORY = Path(__file__).parents[4]


def provenance_of(task: Task, key: RunKey) -> Provenance:
    """Where the run comes from, as of now: preset and checkout may change while it goes on."""
    on_gpu = task.device.type == "cuda"
    return Provenance(
        commit=_commit(),
        dirty_digest=_dirty_digest(),
        versions=versions_of(key.dataset, key.arch, key.method),
        config_digest=task.settings.digest(),
        config=task.settings.model_dump(mode="json"),
        data_checksums=task.data.checksums | _checksums(task.weights),
        lock_digest=_lock_digest(),
        parents={str(parent.record.key): parent.record.digest() for parent in task.parents.values()},
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if on_gpu else None,
        gpu=torch.cuda.get_device_name(task.device) if on_gpu else None,
        cpu=cpu_name(),
        threads=torch.get_num_threads(),
        processes=task.group.size,
        lanes=task.lanes,
        cpu_kernels=torch.backends.cpu.get_cpu_capability(),
    )


def _checksums(weights: WeightsFile | None) -> dict[str, str]:
    """What a record states about the file that its network was read from."""
    return {f"{current.WEIGHTS}{weights.path.name}": weights.checksum} if weights is not None else {}


def _lock_digest() -> str | None:
    """Digest of requirements.lock (first 16 hexadecimal digits), None if there is none."""
    path = paths.root() / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def _commit() -> str | None:
    """Commit of the checkout that holds the code, None outside a checkout and outside a marked copy of one."""
    return _git("rev-parse", "HEAD") or _mark()[0]


_DECIDING = "src", "config", "requirements.lock"


def _dirty_digest() -> str | None:
    """Digest of the uncommitted change to the code and its configuration, new files included; None if there is none."""
    if not _git("rev-parse", "HEAD"):
        return _mark()[1]
    change = _git("diff", "HEAD", "--", *_DECIDING)
    new = _git("ls-files", "--others", "--exclude-standard", "--", *_DECIDING).splitlines()
    told = "\n".join([change, *(f"{name} {files.sha256_of(_REPOSITORY / name)}" for name in sorted(new))])
    return sha256(told.encode())[:16] if change or new else None


def _mark() -> tuple[str | None, str | None]:
    """Of a copy without git: what its file `.commit` says, the commit and, of a changed tree, the change's digest."""
    mark = _REPOSITORY / ".commit"
    words = mark.read_text().split() if mark.is_file() else []
    return words[0] if words else None, words[1] if len(words) > 1 else None


def _git(*words: str) -> str:
    return output_of("git", "-C", str(_REPOSITORY), *words)
