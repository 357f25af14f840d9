"""Whatever stands in a file or on the command line, the answer is a result or one line: made-up damage, seeded.

LAYERPRUNE_LONG_TESTS=1 tries fifty times as much.
"""

import contextlib
import gzip
import io
import json
import os
import stat
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from cifar_helpers import pack, write_archive, write_tree
from data_helpers import idx_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_runs import make_record
from made_up_runs import preset as made_up_preset
from PIL import Image
from test_bad_input import PRESET

from layerprune import cli
from layerprune.core.data import cifar, class_folders, mnist, views
from layerprune.core.data.catalog import CIFAR10_JPEG
from layerprune.errors import LayerpruneError
from layerprune.suite import config, record
from layerprune.suite.campaign import adding
from layerprune.suite.record import Record
from layerprune.system import files

TIMES = 50 if os.environ.get("LAYERPRUNE_LONG_TESTS") else 1


def tried(examples: int) -> Callable:
    """A property, tried on so many examples, the same every time."""
    return settings(
        max_examples=examples * TIMES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )


def answered(ask: Callable[[], object]) -> object:
    """What is answered, None for one short line of complaint."""
    try:
        return ask()
    except LayerpruneError as error:
        assert "\n" not in str(error) and 0 < len(str(error)) < 1500
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("fuzz")
    with mock.patch.dict(os.environ, {"LAYERPRUNE_ROOT": str(root)}), contextlib.chdir(root):
        (root / "config").mkdir()
        yield root


# --- damage -----------------------------------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with some replaced, cut out, doubled or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=8))
        match draw(st.sampled_from(["replace", "cut", "double", "insert", "end"])):
            case "replace":
                content[place : place + len(piece)] = piece
            case "cut":
                del content[place : place + draw(st.integers(1, 600))]
            case "double":
                content[place:place] = content[place : place + draw(st.integers(1, 600))]
            case "insert":
                content[place:place] = piece
            case "end":
                del content[place:]
    return bytes(content)


ODD_VALUES = ["0", "-1", "1e308", ".nan", "''", "true", "null", "[]", "{}", "[0, 0]", "'20'", "~", "9" * 30, "0ep", "x"]
ODD_VALUES += ["&a [*a]", "*none", "!!set {a}", "2024-13-45", "0x7fffffffffffffff", "1.0", "[[[[]]]]", "{? [a] : b}"]


@st.composite
def edited(draw: st.DrawFn, text: str) -> str:
    """A text with one or two of its values, or its pieces between spaces, replaced by odd ones."""
    words = text.split(" ")
    for _ in range(draw(st.integers(1, 2))):
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(ODD_VALUES) | st.sampled_from(words))
    return " ".join(words)


# --- settings ---------------------------------------------------------------------------------------------------------


def whole_study() -> int:
    """Everything that is known of a study before it runs."""
    preset = config.load_preset("study")
    return len([config.resolve(preset, key).digest() for key in config.plan(preset, "study")])


@tried(200)
@given(text=edited(PRESET))
def test_a_preset_with_odd_values(folder: Path, text: str) -> None:
    (folder / "config" / "study.yaml").write_text(text)
    answered(whole_study)


@tried(200)
@given(content=damaged(PRESET.encode()))
def test_a_preset_with_damage(folder: Path, content: bytes) -> None:
    (folder / "config" / "study.yaml").write_bytes(content)
    answered(whole_study)


RULES = """\
C1:
  sentence: a claim
  experiment: what is run
  conditions:
    - {quantity: accuracy-difference, at_least: -0.01}
  least_seeds: 3
  reported: [macs]
"""
PLAN = """\
preset: study
runs:
  - {dataset: digits, arch: lenet-300-100, method: [gated, random], seeds: 0}
"""


@tried(100)
@given(text=edited(RULES))
def test_rules_with_odd_values(folder: Path, text: str) -> None:
    files.write_text(folder / "config" / "claims" / "rules.yaml", text)
    answered(config.load_claims)


@tried(100)
@given(text=edited(PLAN))
def test_plans_with_odd_values(folder: Path, text: str) -> None:
    files.write_text(folder / "config" / "campaigns" / "night.yaml", text)
    answered(lambda: config.load_campaign("night"))


# --- the command line -------------------------------------------------------------------------------------------------

COMMANDS = ["run", "show", "export", "plan", "tables", "figures", "claims", "verify", "methods", "evaluate", "results"]
COMMANDS += ["latency", "stage", "readme", "nothing", "--help", ""]
OPTIONS = ["--preset", "--dataset", "--arch", "--method", "--variant", "--seed", "--device", "--threads", "--output"]
OPTIONS += ["--format", "--partial", "--name", "--batch", "--repeats", "--", "-x", "pack", "unpack", "add"]
VALUES = [
    "study",
    "digits",
    "imagenet",
    "lenet-6",
    "gate",
    "-1",
    "1e9",
    "9" * 40,
    "",
    ".",
    "/dev/null",
    "../..",
    "\udcff",
]
VALUES += ["config", "results/study/digits/a/b/c/seed0", "\n", "x" * 5000, "cuda:99", "*"]


@tried(60)
@given(st.sampled_from(COMMANDS), st.lists(st.sampled_from(OPTIONS) | st.sampled_from(VALUES), max_size=7))
def test_odd_words_on_the_command_line(folder: Path, command: str, words: list[str]) -> None:
    (folder / "config" / "study.yaml").write_text(PRESET)
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.ExitStack() as told:
        told.enter_context(mock.patch.object(sys, "argv", ["layerprune", command, *words]))
        told.enter_context(contextlib.redirect_stdout(out))
        told.enter_context(contextlib.redirect_stderr(err))
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code
    assert status in (0, 1, 2)
    assert "Traceback" not in err.getvalue() and (status != 2 or len(err.getvalue().splitlines()) == 1)


# --- records and archives of results ----------------------------------------------------------------------------------

STUDY = config.parse_preset(made_up_preset(), "made up")


def a_record(seed: int = 0) -> Record:
    """A record of a gated run that nobody made."""
    keys = (key for key in config.plan(STUDY, "study") if (key.method, key.seed) == ("gated", seed))
    return make_record(STUDY, next(keys)).sealed()


RECORD = a_record().model_dump_json()


@tried(150)
@given(content=damaged(RECORD.encode()))
def test_a_damaged_record(folder: Path, content: bytes) -> None:
    path = folder / "record.json"
    path.write_bytes(content)
    read = answered(lambda: record.read(path))
    assert read is None or read.sealed() == read


NAMES = st.sampled_from(
    ["record.json", "curves.csv", "arch.json", "weights.safetensors", "state.pt", "summary.md", "x"]
)
STEPS = st.sampled_from(
    ["results", "state", "study", "digits", "lenet-300-100", "dense", "default", "seed0", "..", "/"]
)
STEPS |= st.sampled_from(["", ".", "seed-1", "SEED0", "~", "\udcff", "a" * 300, "config", "..\\..", "seed0\n"])
RUN = "results/study/digits/lenet-300-100/dense/default/seed0/"
PLACES = st.builds("/".join, st.lists(STEPS, max_size=9)) | st.just(RUN.rstrip("/"))
KINDS = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
KINDS += [tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, b"Z"]


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """A gzipped tar of members of any kind and name, mostly plain, perhaps damaged."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", errors="surrogateescape") as tar:
        for _ in range(draw(st.integers(1, 4))):
            member = tarfile.TarInfo(f"{draw(PLACES)}/{draw(NAMES)}")
            content = draw(st.sampled_from([b"", b"{}", RECORD.encode()]) | st.binary(max_size=50))
            member.type = draw(st.sampled_from([tarfile.REGTYPE] * 6 + KINDS))
            member.linkname = draw(st.sampled_from(["/etc/passwd", "../../outside", RUN]))
            member.size = len(content) if member.type == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(content))
    content = gzip.compress(packed.getvalue())
    return draw(damaged(content)) if draw(st.booleans()) else content


@tried(150)
@given(content=archives())
def test_a_hostile_archive_of_results_climbs_nowhere(folder: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as outside:
        root = Path(outside, "root")
        files.write_text(root / "config" / "study.yaml", PRESET)
        archive = Path(outside, "hostile.tar.gz")
        archive.write_bytes(content)
        with mock.patch.dict(os.environ, {"LAYERPRUNE_ROOT": str(root)}), contextlib.chdir(root):
            answered(lambda: list(adding.add(archive)))
        found = {path.relative_to(outside) for path in Path(outside).rglob("*")}
        allowed = {Path("hostile.tar.gz"), Path("root"), Path("root/config"), Path("root/config/study.yaml")}
        assert all(path.parts[:2] in (("root", "results"), ("root", "state")) for path in found - allowed)
        kinds = {stat.S_IFMT(Path(outside, path).lstat().st_mode) for path in found}
        assert kinds <= {stat.S_IFREG, stat.S_IFDIR}


def test_records_that_start_from_each_other_are_ordered_all_the_same() -> None:
    first, second = (a_record(seed) for seed in (0, 1))
    contents = adding.Contents(records={each.key: each for each in (first, second)})
    for each, other in ((first, second), (second, first)):
        made_by = each.provenance.model_copy(update={"parents": {str(other.key): "digest"}})
        contents.records[each.key] = each.model_copy(update={"provenance": made_by})
    assert set(adding._parents_first(contents)) == {first.key, second.key}


def test_of_records_in_a_long_chain_none_is_lost_and_parents_come_first() -> None:
    contents = adding.Contents()
    base = a_record()
    for number in range(3000):
        made_by = base.provenance.model_copy(update={"parents": {str(replace(base.key, seed=number + 1)): "digest"}})
        made = base.model_copy(update={"seed": number, "provenance": made_by})
        contents.records[made.key] = made
    assert [key.seed for key in adding._parents_first(contents)] == list(reversed(range(3000)))


def test_an_archive_of_very_many_empty_parts_is_read_soon(tmp_path: Path) -> None:
    path = tmp_path / "many.tar.gz"
    path.write_bytes(gzip.compress(b"") * 200_000)
    start = time.process_time()
    assert answered(lambda: list(adding.add(path))) in (None, [])
    assert time.process_time() - start < 8


# --- data -------------------------------------------------------------------------------------------------------------

IDX = idx_bytes(np.arange(3 * 28 * 28).reshape(3, 28, 28) % 251)


@tried(150)
@given(content=damaged(IDX) | damaged(gzip.compress(IDX)), suffix=st.sampled_from(["", ".gz"]))
def test_a_damaged_idx_file(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"images{suffix}"
    path.write_bytes(content)
    answered(lambda: mnist.read_idx(path, 3, {}))


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    made = tmp_path_factory.mktemp("tars")
    tree = write_tree(made / "tree", 1, 1)
    written = pack(tree, made / "tree.tar"), pack(tree, made / "tree.tar.gz"), write_archive(made / "cifar.tar.gz")
    return {path.name: path.read_bytes() for path in written}


@pytest.mark.parametrize("name", ["tree.tar", "tree.tar.gz", "cifar.tar.gz"])
@tried(50)
@given(data=st.data())
def test_a_damaged_tar_file(folder: Path, tars: dict[str, bytes], name: str, data: st.DataObject) -> None:
    path = folder / name
    whole = tars[name]
    if name == "cifar.tar.gz" and data.draw(st.booleans()):  # damage within, where the gzip is sound
        path.write_bytes(gzip.compress(data.draw(damaged(gzip.decompress(whole))), 1))
    else:
        path.write_bytes(data.draw(damaged(whole)))

    def read() -> None:
        if name == "cifar.tar.gz":
            cifar.read_archive(path, {})
        else:
            with class_folders.unpacked(path) as tree:
                for images in class_folders.read_index(tree, cifar.PARTS).values():
                    cifar._pictures(path, images, CIFAR10_JPEG)

    answered(read)


def encoded(form: str, size: int = 24) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.arange(size * size * 3, dtype=np.uint8).reshape(size, size, 3)).save(content, form)
    return content.getvalue()


@pytest.mark.parametrize("decoder", views.DECODERS)
@pytest.mark.parametrize("form", ["jpeg", "png"])
@tried(75)
@given(data=st.data())
def test_a_damaged_image(form: str, decoder: str, data: st.DataObject) -> None:
    found = views.TrainingView(16, decoder)(data.draw(damaged(encoded(form))), 0)
    assert isinstance(found, views.Unreadable) or found.shape == (3, 16, 16)
    assert not isinstance(found, views.Unreadable) or "\n" not in found.reason


def test_json_of_any_depth_and_length_is_one_line(folder: Path) -> None:
    for text in ("[" * 10_000, json.dumps({"x" * 5000: 1})[:-1], '{"a": ' * 9000):
        assert answered(lambda text=text: files.parse_json(text, "record")) is None
