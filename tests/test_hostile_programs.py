"""layerprune.load of files from strangers: whatever they hold, nothing of it is run."""

import contextlib
import io
import json
import os
import pickle
import re
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import images, make
from torch import Tensor, nn

import layerprune
from layerprune.core.networks import storage
from layerprune.errors import LayerpruneError
from layerprune.library.network_files import load_program
from layerprune.suite import latency
from layerprune.system import files

GRAPH = "archive/models/model.json"


class Branching(nn.Module):
    """What plain programs hold: subgraphs, buffers, constants, texts as arguments, several outputs, computed sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.norm(self.conv(x))
        with torch.no_grad():
            mean = nn.functional.gelu(y.mean((2, 3)), approximate="tanh")
        rows = y.flatten(2).transpose(1, 2)
        rows = torch.einsum("bik,bjk->bij", rows, rows).reshape(y.shape[0] * 4, -1)
        return {"mean": mean + torch.tensor([1.0, 2.0, 3.0, 4.0]), "rows": rows, "outer": mean @ mean.T}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "network.pt2"
    torch.manual_seed(0)
    layerprune.save(Branching().eval(), path, torch.randn(2, 1, 6, 6))
    return path


@pytest.fixture
def members(program: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(program) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_program_computes_what_the_module_did(program: Path) -> None:
    torch.manual_seed(0)
    module, x = Branching().eval(), torch.randn(3, 1, 6, 6)
    for name, value in module(x).items():
        torch.testing.assert_close(layerprune.load(program)(x)[name], value)


# --- a canary that sings when code of the file runs -----------------------------------------------------------------


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, cage: Path) -> None:
        self.cage = str(cage)

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (self.cage,)


@pytest.fixture
def cage(tmp_path: Path) -> Path:
    return tmp_path / "sang"


def pickled(cage: Path) -> bytes:
    return pickle.dumps(Canary(cage))


def saved(cage: Path) -> bytes:
    content = io.BytesIO()
    torch.save((Canary(cage),), content)
    return content.getvalue()


def saved_as_before(cage: Path) -> bytes:
    content = io.BytesIO()
    torch.save((Canary(cage),), content, _use_new_zipfile_serialization=False)
    return content.getvalue()


CARRIERS = [pickled, saved, saved_as_before]
FORMER = {f"serialized_{part}.pt": b"" for part in ("state_dict", "constants", "example_inputs")}
NEW = ["data/weights/model.pt", "data/constants/model.pt", "data/constants/custom_obj_0", "extra/note.txt"]
NEW += ["data/aotinductor/model/library.so", "models/other.json", "data/sample_inputs/other.pt", "anything"]


def attempt(path: Path) -> str:
    """What load says of a file, '' where it opens it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layerprune.load(path)
    except LayerpruneError as error:
        assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 500
        return str(error)
    return ""


@pytest.mark.parametrize("carrier", CARRIERS)
def test_the_canary_sings_where_it_is_unpickled(carrier: Callable, cage: Path) -> None:
    if carrier is pickled:
        pickle.loads(carrier(cage))
    else:
        torch.load(io.BytesIO(carrier(cage)), weights_only=False)
    assert cage.is_dir()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_member_is_unpickled(members: dict[str, bytes], cage: Path, tmp_path: Path, carrier: Callable) -> None:
    said = {}
    for name in [*members, *(f"archive/{name}" for name in NEW)]:
        said[name] = attempt(write(tmp_path / "hostile.pt2", {**members, name: carrier(cage)}))
        assert not cage.exists(), name
    opened = {name for name, text in said.items() if not text}
    assert all(re.search(r"/(weight_\d+|tensor_\d+|byteorder|.data/\w+)$", name) for name in opened), opened


@pytest.mark.parametrize("carrier", CARRIERS)
def test_no_table_has_its_tensors_unpickled(
    members: dict[str, bytes], cage: Path, tmp_path: Path, carrier: Callable
) -> None:
    for table, member in (
        ("weights/model_weights", "weights/weight_0"),
        ("constants/model_constants", "constants/tensor_0"),
    ):
        name = f"archive/data/{table}_config.json"
        content = json.loads(members[name])
        first = next(iter(content["config"].values()))
        first |= {"use_pickle": True, "path_name": member.split("/")[1]}
        spoilt = {**members, name: json.dumps(content).encode(), f"archive/data/{member}": carrier(cage)}
        assert "stored as a pickled object" in attempt(write(tmp_path / "hostile.pt2", spoilt))
        assert not cage.exists()


def test_the_former_format_is_not_unpickled(cage: Path, tmp_path: Path, members: dict[str, bytes]) -> None:
    spoilt = {"version": b"8.14", "serialized_exported_program.json": members[GRAPH]}
    for name in FORMER:
        assert attempt(write(tmp_path / "hostile.pt2", {**spoilt, **FORMER, name: saved(cage)}))
        assert not cage.exists()


# --- texts of the graph that torch evaluates ------------------------------------------------------------------------


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where the texts of a graph stand, its keys too (their last part is None)."""
    if isinstance(value, dict):
        own = [(*path, key, None) for key in value]
        return own + [place for key, each in value.items() for place in places(each, (*path, key))]
    if isinstance(value, list):
        return [place for index, each in enumerate(value) for place in places(each, (*path, index))]
    return [path] if isinstance(value, str) else []


def put(graph: Any, place: tuple, text: str) -> Any:
    """A copy of the graph with a text at a place."""
    spoilt = json.loads(json.dumps(graph))
    target = spoilt
    *way, last = place[:-1] if place[-1] is None else place
    for step in way:
        target = target[step]
    if place[-1] is None:
        target[text] = target.pop(last)
    else:
        target[last] = text
    return spoilt


FREE_KEYS = {"tensor_values", "sym_int_values", "range_constraints", "opset_version", "metadata"}
"""What holds names of the file's own as keys."""


def kinds(graph: Any) -> list[tuple]:
    """A place of each kind: of the texts under a key the first, and the first of the keys that the file chooses."""
    found: dict[tuple, tuple] = {}
    for place in places(graph):
        is_key = place[-1] is None
        named = [part for part in place[: -2 if is_key else None] if isinstance(part, str)]
        if named and (not is_key or named[-1] in FREE_KEYS):
            found.setdefault((is_key, named[-1]), place)
    return list(found.values())


SONGS = [
    "__import__('os').mkdir({cage!r})",
    "x=__import__('os').mkdir({cage!r})#",
    "Symbol('s77')+().__class__.__base__.__subclasses__()[0].mkdir({cage!r})",
    "x):\n  __import__('os').mkdir({cage!r})\ndef f(y",
    "torch.os.mkdir",
]


@pytest.mark.parametrize("song", SONGS)
def test_no_text_of_the_graph_is_run(members: dict[str, bytes], cage: Path, tmp_path: Path, song: str) -> None:
    graph = json.loads(members[GRAPH])
    graph["guards_code"] = ["L['x'].size()[1] == 1"]
    text = song.format(cage=str(cage))
    for place in kinds(graph):
        spoilt = {**members, GRAPH: json.dumps(put(graph, place, text)).encode()}
        path = write(tmp_path / "hostile.pt2", spoilt)
        if not attempt(path):
            # An operator that does not know the word leaves the gradients off, too.
            with contextlib.suppress(RuntimeError), torch.no_grad():
                layerprune.load(path)(torch.randn(2, 1, 6, 6))
        assert not cage.exists(), place


REFUSED = {
    "expression": ("expr_str", "__import__('os').system('true')", "it evaluates "),
    "attribute": ("expr_str", "Symbol('s77').__class__", "it evaluates "),
    "text": ("expr_str", "Symbol('__import__')", "it evaluates "),
    "tower of powers": ("expr_str", "Pow(Integer(9), Pow(Integer(9), Integer(9)))", "it evaluates "),
    "operator of Python": ("target", "_operator.methodcaller", "it calls "),
    "function of torch": ("target", "torch.os.system", "it calls "),
    "loader of libraries": ("target", "torch.ops.load_library", "it calls "),
    "attribute of an operator": ("target", "torch.ops.aten.add.py_impl", "it calls "),
    "reader of files": ("target", "torch.ops.aten.from_file.default", "it calls "),
    "extension": ("target", "#namespace:name", "it calls "),
    "structure": (
        "in_spec",
        '[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]',
        "it makes ",
    ),
    "name": ("name", "x, y=print(1)", "it holds the name "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_run_code_is_refused_by_name(members: dict[str, bytes], tmp_path: Path, case: str) -> None:
    key, text, complaint = REFUSED[case]
    graph = json.loads(members[GRAPH])
    place = next(place for place in places(graph) if place[-1] == key)
    path = write(tmp_path / "hostile.pt2", {**members, GRAPH: json.dumps(put(graph, place, text)).encode()})
    assert f"not opened: {complaint}" in (said := attempt(path)) and "torch.export.load opens it" in said
    with pytest.raises(LayerpruneError, match="not opened"):
        latency._model_in(path)


GUARDS = {
    "L['x'].size()[1] == 1": True,
    "Mod(L['x'].size()[0], 2) == 0 or L['x'].size()[0] <= 7": True,
    "__import__('os')": False,
    "L['x\"+str(print(1))+\"'] == 1": False,
    "L['x'].__class__ == 1": False,
    "print(L)": False,
    "[1 for x in L]": False,
    "(lambda: 1)()": False,
}


@pytest.mark.parametrize("guard", GUARDS)
def test_guards_are_bounds_of_sizes_and_nothing_else(members: dict[str, bytes], tmp_path: Path, guard: str) -> None:
    graph = json.loads(members[GRAPH]) | {"guards_code": [guard]}
    path = write(tmp_path / "hostile.pt2", {**members, GRAPH: json.dumps(graph).encode()})
    assert ("it evaluates " not in attempt(path)) is GUARDS[guard]


# --- the archive ----------------------------------------------------------------------------------------------------


def test_what_is_compressed_or_there_twice_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    assert "is compressed" in attempt(write(tmp_path / "small.pt2", members, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(write(tmp_path / "twice.pt2", members), "a") as archive, pytest.warns(UserWarning):
        archive.writestr(GRAPH, b"{}")
    assert "two members are called" in attempt(tmp_path / "twice.pt2")


def sharing(members: dict[str, bytes], names: list[str], shared: int) -> bytes:
    """An archive in which each of these members holds all that follows: so many bytes, and the headers between."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, each)
        tail = bytes(shared)
        for name in reversed(names):
            one = io.BytesIO()
            with zipfile.ZipFile(one, "w") as single:
                single.writestr(name, tail)
            tail = one.getvalue()[: single.start_dir]
        start, place = archive.start_dir, 0
        for name in names:
            info = _told(tail[place:], name)
            info.header_offset = start + place
            archive.filelist.append(info)
            place += len(info.FileHeader())
        archive.fp.write(tail)
        archive.start_dir = start + len(tail)
    return content.getvalue()


def _told(member: bytes, name: str) -> zipfile.ZipInfo:
    """What the list of an archive says of a member that is all of these bytes, its header before it."""
    info = zipfile.ZipInfo(name)
    info.CRC = info.file_size = info.compress_size = 0
    size = len(member) - len(info.FileHeader())
    info.CRC, info.file_size, info.compress_size = zlib.crc32(member[-size:]), size, size
    return info


def deflated(stored: bytes) -> bytes:
    """An archive of torch's, its members compressed."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(stored)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return content.getvalue()


def zeros(count: int) -> bytes:
    content = io.BytesIO()
    torch.save(((torch.zeros(count, dtype=torch.uint8),), {}), content)
    return content.getvalue()


def larger(members: dict[str, bytes]) -> dict[str, bytes]:
    name = "archive/data/weights/model_weights_config.json"
    table = json.loads(members[name])
    for each in table["config"].values():
        each["tensor_meta"]["sizes"] = [{"as_int": 10**6}] * len(each["tensor_meta"]["sizes"])
    return members | {name: json.dumps(table).encode()}


EXAMPLE = "archive/data/sample_inputs/model.pt"
MANY = [f"archive/data/weights/weight_{number}" for number in range(100, 130)]
BOMBS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes] | bytes], str]] = {
    "members that share their bytes": (lambda members: sharing(members, MANY, 10**7), "its members share their bytes"),
    "a compressed example": (
        lambda members: members | {EXAMPLE: deflated(zeros(10**8))},
        "its example input: corrupt or not a file of tensors: '.*' is compressed",
    ),
    "an archive behind something": (
        lambda members: members | {EXAMPLE: zeros(1)[:60] + zeros(1)},
        "its example input: corrupt or not a file of tensors: bytes before or behind the archive",
    ),
    "members of an example that share their bytes": (
        lambda members: members | {EXAMPLE: sharing({}, ["archive/data.pkl", *MANY], 10**7)},
        "its example input: corrupt or not a file of tensors: its members share their bytes",
    ),
    "weights larger than they are": (larger, "not a program"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_program_takes_no_more_memory_than_its_file(members: dict[str, bytes], tmp_path: Path, case: str) -> None:
    make_bomb, expected = BOMBS[case]
    made = make_bomb(members)
    path = tmp_path / "bomb.pt2"
    path.write_bytes(made) if isinstance(made, bytes) else write(path, made)
    tracemalloc.start()
    said = attempt(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search(expected, said), said
    assert peak < 5 * path.stat().st_size + 2 * 10**7


@pytest.mark.parametrize("name", [GRAPH, "archive/data/weights/model_weights_config.json"])
def test_a_graph_and_its_tables_are_no_larger_than_texts(
    members: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "LARGEST_TEXT", 30_000)
    assert len(members[name]) < 30_000
    path = write(tmp_path / "long.pt2", {**members, name: b" " * 30_000 + members[name]})
    assert re.search(f"not a program of torch.export: {name.partition('/')[2]} has [0-9,]+ bytes, more", attempt(path))


@pytest.mark.parametrize("name", ["network.pt", "network.pt2"])
def test_a_file_larger_than_any_network_is_not_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04")
    os.truncate(path, 10**10)
    assert f"{path}: too large: 10,000,000,000 bytes instead of at most " in attempt(path)


@pytest.mark.parametrize("content", [lambda: deflated(zeros(10**8)), lambda: sharing({}, MANY, 10**7)])
def test_a_network_file_that_swells_is_refused(tmp_path: Path, content: Callable[[], bytes]) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(content())
    with pytest.raises(LayerpruneError, match=r"network\.pt: corrupt or not a file of tensors: .*(compressed|share)"):
        storage.read_tensors(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt2")
    (tmp_path / "endless.pt2").symlink_to("/dev/zero")
    (tmp_path / "gone.pt2").symlink_to(tmp_path / "nowhere")
    assert attempt(tmp_path / "pipe.pt2").endswith("pipe.pt2: cannot read: not a regular file")
    assert attempt(tmp_path / "endless.pt2").endswith("endless.pt2: cannot read: not a regular file")
    assert attempt(tmp_path / "gone.pt2").endswith("gone.pt2: no such file")
    assert attempt(tmp_path).endswith("cannot read: Is a directory")
    with pytest.raises(LayerpruneError, match=r"cannot read: embedded null byte$"):
        layerprune.load(tmp_path / "a\0b")


def test_a_hostile_network_file_is_not_unpickled(cage: Path, tmp_path: Path) -> None:
    for carrier in CARRIERS:
        (tmp_path / "network.pt").write_bytes(carrier(cage))
        assert attempt(tmp_path / "network.pt") and not cage.exists()


def test_own_networks_come_back_as_programs_with_their_example(tmp_path: Path) -> None:
    layerprune.save(make("resnet-20"), tmp_path / "network.pt2", images(1))
    (example,), named = load_program(tmp_path / "network.pt2").example_inputs
    assert example.shape == (2, *images(1).shape[1:]) and named == {}
