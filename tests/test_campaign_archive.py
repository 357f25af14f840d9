"""A campaign's archive holds what matters most and no more than it may; merging it loses nothing and trusts nothing."""

import gzip
import io
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from campaign_helpers import DENSE, GATED, MAGNITUDE, RANDOM, RUNS, make, numbers, run_key, tree, write_study
from conftest import Outcome, run_process

from layerprune.analysis.verify import verify
from layerprune.core.networks.storage import tensors_as_bytes
from layerprune.errors import LayerpruneError
from layerprune.suite import config, packing, record, store
from layerprune.suite.campaign import adding, archive, reading
from layerprune.suite.campaign.adding import Verdict
from layerprune.system import files, paths
from layerprune.system.files import sha256
from layerprune.system.paths import RunKey

TEXTS = archive.FOR_SUMMARY + 60_000
"""A limit that leaves room for records, not for weights."""
STATE = tensors_as_bytes({"identity": "", "state": {}})
STATE = sha256(STATE).encode() + b"\n" + STATE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the plan's runs."""
    folder = write_study(tmp_path_factory.mktemp("made"))
    with at(folder):
        make(RUNS)
    return folder


@contextmanager
def at(folder: Path) -> Iterator[None]:
    """While this lasts, the folder is the root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        yield


def packed(root: Path, made: list[RunKey], unmade: list[RunKey] = (), limit: int = archive.LIMIT) -> Path:
    """The archive of a root's runs."""
    with at(root):
        path = Path(tempfile.mkdtemp(dir=root)) / "archive.tar.gz"
        archive.write(path, config.load_preset("march"), list(made), list(unmade), "\n".join, limit)
    return path


@pytest.fixture(scope="module")
def whole(made: Path) -> Path:
    """The archive of all runs with all their weights."""
    return packed(made, RUNS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh root with the same preset."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / "here"))
    return write_study(tmp_path / "here")


def ends_of_members(content: bytes) -> Iterator[int]:
    """Where the members of a .gz file end, in bytes."""
    rest = content
    while rest:
        member = zlib.decompressobj(wbits=31)
        member.decompress(rest)
        rest = member.unused_data
        yield len(content) - len(rest)


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as found:
        return found.getnames()


def weights_in(path: Path) -> list[str]:
    return [name for name in names_in(path) if name.endswith("safetensors")]


def weights_of(key: RunKey) -> str:
    return f"results/{key}/weights.safetensors"


# --- writing --------------------------------------------------------------------------------------------------------


def test_an_archive_holds_records_curves_networks_weights_and_the_summary(whole: Path) -> None:
    kinds = ("record.json", "curves.csv", "arch.json", "weights.safetensors")
    assert set(names_in(whole)) == {f"results/{key}/{kind}" for key in RUNS for kind in kinds} | {"summary.md"}


def test_tar_and_gzip_read_it_too(whole: Path, tmp_path: Path) -> None:
    done = run_process(["tar", "-xzf", str(whole), "-C", str(tmp_path)])
    assert done.code == 0, done.stderr
    assert (tmp_path / weights_of(GATED)).is_file() and (tmp_path / "summary.md").is_file()


@pytest.mark.parametrize("fitting", [[DENSE], [DENSE, GATED]], ids=["one", "two"])
def test_the_limit_holds_and_weights_of_parents_come_first(made: Path, fitting: list[RunKey]) -> None:
    """GATED comes first among the runs, and MAGNITUDE, which is still to be made, starts from DENSE."""
    sizes = [len(gzip.compress((made / weights_of(key)).read_bytes(), 6)) for key in fitting]
    limit = packed(made, [GATED, RANDOM, DENSE], limit=TEXTS).stat().st_size + archive.FOR_SUMMARY + sum(sizes) + 1000
    path = packed(made, [GATED, RANDOM, DENSE], [MAGNITUDE], limit)
    assert path.stat().st_size <= limit
    assert weights_in(path) == [weights_of(key) for key in fitting]


def test_a_state_goes_before_weights_that_nobody_starts_from(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    files.write_atomically(root / "state" / str(MAGNITUDE) / "state.pt", lambda stream: stream.write(STATE))
    names = names_in(packed(root, [GATED, DENSE], [MAGNITUDE]))
    places = [names.index(name) for name in (weights_of(DENSE), f"state/{MAGNITUDE}/state.pt", weights_of(GATED))]
    assert places == sorted(places)


def test_what_finds_no_room_is_named_in_the_summary(made: Path) -> None:
    path = packed(made, RUNS, limit=TEXTS)
    with tarfile.open(path) as found:
        told = found.extractfile("summary.md").read().decode().splitlines()
    assert set(told) == {weights_of(key) for key in RUNS} and path.stat().st_size <= TEXTS


def test_a_damaged_file_is_left_out_and_named(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "root"))
    (root / weights_of(GATED)).write_bytes(b"")
    path = packed(root, [GATED])
    with tarfile.open(path) as found:
        assert "damaged or altered" in found.extractfile("summary.md").read().decode()
    assert weights_in(path) == []


def test_runs_of_earlier_campaigns_are_found_in_their_folders_unless_they_are_stored(
    made: Path, here: Path, whole: Path
) -> None:
    list(adding.add(whole))
    assert [key for key in [*RUNS, run_key("gated", "nu-0.1")] if archive.is_only_in_folder(key)] == RUNS
    list(packing.pack("march", ["digits"], weights=False))
    assert not any(map(archive.is_only_in_folder, RUNS))


# --- adding ---------------------------------------------------------------------------------------------------------


def add(path: Path) -> list[Verdict]:
    return list(adding.add(path))


def test_a_fresh_root_gets_every_file_as_it_was_and_a_second_time_nothing(made: Path, whole: Path, here: Path) -> None:
    assert [verdict.taken for verdict in add(whole)] == [True] * 4
    assert tree(here) == {name: content for name, content in tree(made).items() if name.startswith("results")}
    before = tree(here)
    assert {verdict.line.split(": ")[1] for verdict in add(whole)} == {"is here already"}
    assert tree(here) == before


def test_runs_without_weights_are_current_and_make_their_parents_weights_again_when_needed(
    made: Path, here: Path
) -> None:
    add(packed(made, [DENSE, GATED], limit=TEXTS))
    assert not paths.weights(DENSE).exists()
    assert [each for each in verify("march") if each.where in (str(DENSE), str(GATED)) and each.is_error] == []
    make([RANDOM])
    assert paths.weights(DENSE).exists() and not paths.weights(GATED).exists()
    with at(made):
        expected = numbers([RANDOM])
    assert numbers([RANDOM]) == expected


def test_weights_that_are_missing_here_are_taken_later(made: Path, whole: Path, here: Path) -> None:
    add(packed(made, [DENSE], limit=TEXTS))
    assert [verdict.line for verdict in add(whole) if str(DENSE) in verdict.line] == [f"{DENSE}: added"]
    assert store.weights(DENSE) == paths.weights(DENSE)


def test_a_run_that_is_in_the_store_stays_there(whole: Path, here: Path) -> None:
    add(whole)
    list(packing.pack("march", ["digits"], weights=True))
    for key in RUNS:
        shutil.rmtree(paths.run_folder(key))
    lines = {verdict.line for verdict in add(whole) if not verdict.taken}
    assert lines == {f"{key}: is here already" for key in (DENSE, GATED)}  # their weights are in the store too
    assert not paths.record(DENSE).exists() and paths.weights(RANDOM).exists()


def changed(root: Path, key: RunKey, **fields: object) -> None:
    """Another record of a run, sound in itself."""
    with at(root):
        record.write(paths.record(key), store.find(key).model_copy(update=fields))


def test_a_run_that_differs_is_named_and_left_and_the_others_are_added(whole: Path, here: Path) -> None:
    add(whole)
    shutil.rmtree(paths.run_folder(MAGNITUDE))
    changed(here, GATED, test_accuracy=0.5)
    before = tree(here)
    verdicts = {verdict.line.split(": ")[0]: verdict for verdict in add(whole)}
    assert verdicts[str(GATED)].refused and "conflict: another record is here" in verdicts[str(GATED)].line
    assert verdicts[str(MAGNITUDE)].taken
    assert tree(here).items() >= before.items()


def test_the_command_exits_with_1_at_a_conflict_and_with_2_at_no_archive(
    whole: Path, cli: Callable[..., Outcome], root: Path
) -> None:
    write_study(root)
    first = cli("results", "add", whole)
    assert first.code == 0 and first.stdout.endswith("4 added, 0 refused, of 4\n")
    changed(root, GATED, test_accuracy=0.5)
    second = cli("results", "add", whole)
    assert second.code == 1 and f"{GATED}: not added: conflict" in second.stdout
    none = cli("results", "add", root / "config" / "march.yaml")
    assert none.code == 2 and len(none.stderr.splitlines()) == 1 and "damaged" in none.stderr


def test_a_run_of_other_settings_than_here_is_refused_and_so_is_what_starts_from_it(whole: Path, here: Path) -> None:
    path = paths.preset_file("march")
    path.write_text(path.read_text().replace("dense: {}", "dense: {training: {lr: 0.04}}"))
    verdicts = {verdict.line.split(": ")[0]: verdict.line for verdict in add(whole)}
    assert "stale-config: settings differ: training.lr (0.01 -> 0.04)" in verdicts[str(DENSE)]
    assert "stale-parent" in verdicts[str(MAGNITUDE)] and verdicts[str(GATED)] == f"{GATED}: added"
    assert not paths.run_folder(DENSE).exists() and not paths.run_folder(MAGNITUDE).exists()


def test_a_run_of_a_preset_that_is_not_here_is_refused(whole: Path, here: Path) -> None:
    paths.preset_file("march").unlink()
    assert all(verdict.refused and "no such preset" in verdict.line for verdict in add(whole))
    assert tree(here) == {}


def test_a_run_that_is_being_made_is_left_alone(whole: Path, here: Path) -> None:
    with files.exclusive(paths.lock(GATED), "held"):
        (verdict,) = [verdict for verdict in add(whole) if verdict.line.startswith(str(GATED))]
    assert verdict.refused and "being made by another process" in verdict.line


# --- states ---------------------------------------------------------------------------------------------------------


def with_files(path: Path, contents: dict[str, bytes]) -> Path:
    """An archive of these files."""
    made = archive.Archive(archive.LIMIT)
    for name, content in contents.items():
        assert made.take({name: content})
    made.write(path)
    return path


STATE_OF_GATED = f"state/{GATED}/state.pt"


def test_a_state_is_taken_only_where_neither_record_nor_state_is(here: Path, whole: Path, tmp_path: Path) -> None:
    path = with_files(tmp_path / "state.tar.gz", {STATE_OF_GATED: STATE})
    (verdict,) = add(path)
    assert verdict.taken and paths.state(GATED).read_bytes() == STATE
    paths.state(GATED).write_bytes(b"own")
    (verdict,) = add(path)
    assert not verdict.taken and not verdict.refused and paths.state(GATED).read_bytes() == b"own"
    add(whole)
    assert not paths.state(GATED).exists()
    (verdict,) = add(path)
    assert not verdict.taken and not paths.state(GATED).exists()


def test_a_damaged_state_and_one_of_an_unknown_run_are_refused(here: Path, tmp_path: Path) -> None:
    with pytest.raises(LayerpruneError, match=r"state.pt: damaged"):
        add(with_files(tmp_path / "a.tar.gz", {STATE_OF_GATED: STATE + b"x"}))
    unknown = f"state/{run_key('sss')}/state.pt"
    (verdict,) = add(with_files(tmp_path / "b.tar.gz", {unknown: STATE}))
    assert verdict.refused and "'sss' is not run" in verdict.line and tree(here) == {}


# --- damaged and hostile archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.3, 0.999])
def test_a_truncated_archive_changes_nothing(whole: Path, here: Path, tmp_path: Path, part: float) -> None:
    content = whole.read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(content[: int(part * len(content))])
    with pytest.raises(LayerpruneError, match=r"cut.tar.gz: "):
        add(tmp_path / "cut.tar.gz")
    assert tree(here) == {}


def test_an_archive_cut_between_two_of_its_parts_changes_nothing(whole: Path, here: Path, tmp_path: Path) -> None:
    """Each part is a gzip member of its own, so that what is left is a faultless .gz file."""
    content = whole.read_bytes()
    ends = list(ends_of_members(content))
    assert len(ends) > 3 and ends[-1] == len(content)
    for end in ends[:-1]:
        (tmp_path / "cut.tar.gz").write_bytes(content[:end])
        with pytest.raises(LayerpruneError, match=r"cut.tar.gz: damaged: it ends too early"):
            add(tmp_path / "cut.tar.gz")
    assert tree(here) == {}


@pytest.mark.parametrize("part", [0.0, 0.005, 0.1, 0.5, 0.9])
def test_a_flipped_byte_changes_nothing(whole: Path, here: Path, tmp_path: Path, part: float) -> None:
    content = bytearray(whole.read_bytes())
    content[int(part * len(content)) + 30] ^= 255
    (tmp_path / "bad.tar.gz").write_bytes(content)
    with pytest.raises(LayerpruneError, match=r"bad.tar.gz: "):
        add(tmp_path / "bad.tar.gz")
    assert tree(here) == {}


def files_of(whole: Path, key: RunKey) -> dict[str, bytes]:
    with tarfile.open(whole) as found:
        return {name: found.extractfile(name).read() for name in found.getnames() if name.startswith(f"results/{key}/")}


@pytest.mark.parametrize("kind", ["record.json", "curves.csv", "arch.json", "weights.safetensors"])
def test_a_file_that_is_not_what_its_record_says_is_refused(whole: Path, here: Path, tmp_path: Path, kind: str) -> None:
    contents = files_of(whole, DENSE)
    contents[f"results/{DENSE}/{kind}"] = contents[f"results/{DENSE}/{kind}"].replace(b"0", b"1", 1)
    with pytest.raises(LayerpruneError, match=f"{kind}: .*altered"):
        add(with_files(tmp_path / "altered.tar.gz", contents))
    assert tree(here) == {}


@pytest.mark.parametrize("kind", ["record.json", "curves.csv", "arch.json"])
def test_a_run_without_one_of_its_files_is_refused(whole: Path, here: Path, tmp_path: Path, kind: str) -> None:
    contents = files_of(whole, DENSE)
    del contents[f"results/{DENSE}/{kind}"]
    with pytest.raises(LayerpruneError, match=r"missing|no record"):
        add(with_files(tmp_path / "part.tar.gz", contents))


def test_a_record_in_the_folder_of_another_run_is_refused(whole: Path, here: Path, tmp_path: Path) -> None:
    moved = {name.replace("seed0", "seed7"): content for name, content in files_of(whole, DENSE).items()}
    with pytest.raises(LayerpruneError, match="is the record of"):
        add(with_files(tmp_path / "moved.tar.gz", moved))


RECORD = f"results/{DENSE}/record.json"


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        f"../results/{DENSE}/record.json",
        f"/results/{DENSE}/record.json",
        "results/../../../../../../outside/seed0/record.json",
        "results/march/digits/../../method/default/seed0/record.json",
        "results/march/digits/lenet/dense/default/seed00/record.json",
        "results/march/digits/lenet/dense/default/seed0/other.json",
        f"results//{DENSE}/record.json",
        f"./results/{DENSE}/record.json",
        f"results/{DENSE}/record.json/",
        f"state/{DENSE}/lock",
        "config/march.yaml",
        "src/layerprune/cli.py",
        "",
    ],
)
def test_a_name_that_is_no_file_of_a_run_is_refused(here: Path, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    path = tmp_path / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        made.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(LayerpruneError, match=r"is not a (plain )?file"):
        add(path)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE),
        tarfile.GNUTYPE_SPARSE,
    ],
    ids=["symbolic link", "link", "character device", "block device", "fifo", "folder", "sparse"],
)
def test_what_is_no_plain_file_is_refused_under_any_name(here: Path, tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo(RECORD)
    info.type, info.linkname = kind, "/etc/passwd"
    path = tmp_path / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        made.addfile(info)
    with pytest.raises(LayerpruneError, match="is not a plain file"):
        add(path)
    assert tree(here) == {}


def test_a_name_that_is_there_twice_is_refused(whole: Path, here: Path, tmp_path: Path) -> None:
    made = archive.Archive(archive.LIMIT)
    for _ in range(2):
        made.take(files_of(whole, DENSE))
    made.write(tmp_path / "twice.tar.gz")
    with pytest.raises(LayerpruneError, match="is in it twice"):
        add(tmp_path / "twice.tar.gz")


@pytest.mark.parametrize("members", [1, 3])
def test_a_few_bytes_that_mean_many_are_refused_before_they_fill_memory(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    monkeypatch.setattr(reading, "LARGEST_INSIDE", 1_000_000)
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bytes(3_000_000 // members)) * members)
    with pytest.raises(LayerpruneError, match="holds more than an archive"):
        add(tmp_path / "bomb.tar.gz")
    monkeypatch.setattr(reading, "LARGEST", 100)
    with pytest.raises(LayerpruneError, match="larger than an archive"):
        add(tmp_path / "bomb.tar.gz")


def test_no_archive_at_all_is_one_line(here: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([1]))
    for path in (tmp_path / "list.json", tmp_path / "gone.tar.gz", tmp_path):
        with pytest.raises(LayerpruneError, match=f"^{path}: [^\n]*$"):
            add(path)
