"""Records, lines of the store and networks that a stranger made up, sealed as if they were sound: one line, soon."""

import json
import lzma
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_bad_input import run_key
from test_hostile_store import complaint, finished, root  # noqa: F401 -- fixtures

from layerprune.analysis import frames
from layerprune.core.networks import storage
from layerprune.suite import record, store
from layerprune.system import files, paths

KEY = run_key("dense")


def sealed(raw: dict[str, Any]) -> dict[str, Any]:
    """With the checksum that a record of this content would have, were its numbers finite."""
    told = {name: value for name, value in raw.items() if name != "checksum"}
    return told | {"checksum": files.sha256(json.dumps(told, sort_keys=True).encode())}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD_RECORDS = {
    "not a number": lambda made: made["details"].update(x=float("nan")),
    "endless": lambda made: made.update(wall_seconds=float("inf")),
    "endless epochs": lambda made: made.update(epochs=float("inf")),
    "too large for a float": lambda made: made.update(macs=10**400),
    "training too large for a float": lambda made: made.update(train_macs=10**400),
    "nothing to compare with": lambda made: made.update(macs_dense=0),
    "a field of pages": lambda made: made.update({"x" * 100_000: 1}),
    "half a character": lambda made: made.update(data_source="\ud800"),
    "a moved cursor": lambda made: made.update(device="\x1b[2J"),
    "lines": lambda made: made.update(reason="one\ntwo"),
    "settings of no kind": lambda made: made["provenance"].update(config={"settings": None}),
    "settings in a list": lambda made: made["provenance"].update(config={"training": []}),
}


@pytest.mark.parametrize("case", ODD_RECORDS)
def test_a_sealed_record_of_nonsense_is_refused_by_file_and_field(root: Path, case: str) -> None:  # noqa: F811
    path = paths.record(KEY)
    made = json.loads(path.read_text())
    ODD_RECORDS[case](made)
    path.write_text(json.dumps(sealed(made)))
    line = complaint(lambda: record.read(path))
    assert line.startswith(f"{path}: ") and line.isprintable()


def test_details_that_are_nested_without_end_are_refused_where_they_are_compared(root: Path) -> None:  # noqa: F811
    made = json.loads(paths.record(KEY).read_text())
    made["details"]["x"] = nested(900)
    assert "details: nested too deeply" in complaint(lambda: record.parsed(sealed(made), "record").digest())


# --- the store --------------------------------------------------------------------------------------------------------

OF_RECORDS = {
    "a list as a name": {"arch": [1]},
    "a mapping as a seed": {"seed": {}},
    "a seed as a text": {"seed": "0"},
    "another data set": {"dataset": "mnist"},
    "a path": {"preset": "../study"},
}
OF_TEXTS = {
    "a record that is none": {"record": 3},
    "curves that are none": {"curves": 3},
    "a network as a list": {"arch": []},
    "details that are none": {"details": None},
    "provenance in a list": {"provenance": []},
}


def change(path: Path, edit: Callable[[dict], Any]) -> None:
    """Edit every line of a file of the store."""
    packed = path.suffix == ".xz"
    text = (lzma.decompress(path.read_bytes()) if packed else path.read_bytes()).decode()
    lines = "".join(f"{json.dumps(edit(json.loads(line)))}\n" for line in text.splitlines()).encode()
    path.write_bytes(lzma.compress(lines) if packed else lines)


@pytest.mark.parametrize("case", [*OF_RECORDS, "a number", "a list"])
def test_an_odd_line_of_records_is_refused(root: Path, case: str) -> None:  # noqa: F811
    path = paths.stored_records("study", "digits")
    change(path, lambda line: {"a number": 3, "a list": [[]]}.get(case, line | OF_RECORDS.get(case, {})))
    assert complaint(lambda: store.keys("study", "digits")).startswith(f"{path}: a line ")


@pytest.mark.parametrize("name", ["arrays", "texts"])
@pytest.mark.parametrize("case", [*OF_TEXTS, "no record", "a number"])
def test_an_odd_line_beside_the_records_is_refused(root: Path, name: str, case: str) -> None:  # noqa: F811
    path = getattr(paths, f"stored_{name}")("study", "digits")

    def edit(line: dict) -> Any:
        if case == "no record":
            del line["record"]
        return 3 if case == "a number" else line | OF_TEXTS.get(case, {})

    change(path, edit)
    shutil.rmtree(paths.run_folder(KEY))
    assert complaint(lambda: (store.stored(KEY), store.curves(KEY))).startswith(f"{path}: ")


def test_a_stored_text_with_half_a_character_is_refused(root: Path) -> None:  # noqa: F811
    change(paths.stored_texts("study", "digits"), lambda line: line | {"curves": "\ud800"})
    shutil.rmtree(paths.run_folder(KEY))
    assert "curves: not a text in UTF-8" in complaint(lambda: store.curves(KEY))


CLIMBING = ["..", "../../../../outside", "/outside", "", ".", "a/b", "Dense", "x" * 300, "\x1b[2J", "a\nb"]


@pytest.mark.parametrize("field", ["arch", "method", "variant"])
@pytest.mark.parametrize("name", CLIMBING)
def test_what_is_unpacked_of_a_store_climbs_nowhere(root: Path, field: str, name: str) -> None:  # noqa: F811
    made = store.stored(KEY).model_copy(update={field: name}).sealed()
    named = {"run": str(made.key), "record": made.checksum}
    own = paths.stored_records("study", "digits")
    change(own, lambda line: store._split(made)[0])
    for path in (paths.stored_arrays, paths.stored_texts):
        change(path("study", "digits"), lambda line: line | named)
    before = sorted(root.parent.rglob("*"))
    line = complaint(lambda: [store.unpack(key) for key in store.keys("study", "digits")])
    assert line.startswith(f"{own}: a line that names no run") and line.isprintable()
    assert sorted(root.parent.rglob("*")) == before


def test_what_is_unpacked_is_checked_before_anything_is_written(root: Path) -> None:  # noqa: F811
    shutil.rmtree(paths.run_folder(KEY))
    path = paths.stored_weights(KEY)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert complaint(lambda: store.unpack(KEY)).startswith(f"{path}: damaged or altered")
    assert not paths.run_folder(KEY).exists()


def test_very_many_empty_lines_take_no_memory_of_their_own(root: Path) -> None:  # noqa: F811
    path = paths.stored_records("study", "digits")
    text = "\n" * 4_000_000 + path.read_text()
    tracemalloc.start()
    assert len(store._lines(path, text)) == 1
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_a_key_that_stands_twice_among_very_many_is_found_at_once() -> None:
    names = ",".join(f'"k{number}":1' for number in range(200_000))
    assert "key 'k7' appears twice" in complaint(lambda: files.parse_json(f'{{{names},"k7":2}}', "record"))


# --- what lies beside a record ----------------------------------------------------------------------------------------


def beside(path: Path, content: bytes) -> None:
    """Put a content in a file's place, and have the record say so."""
    path.write_bytes(content)
    made = json.loads(paths.record(KEY).read_text())
    made["files"][path.stem] = files.sha256(content)
    paths.record(KEY).write_text(json.dumps(sealed(made)))


@pytest.mark.parametrize("value", ["9" * 400, "x", "0x1", "2026-01-01"])
def test_curves_hold_numbers(root: Path, value: str) -> None:  # noqa: F811
    path = paths.curves(KEY)
    beside(path, f"epoch,step,train_loss\n1,1,{value}\n".encode())
    told = complaint(lambda: frames.read_curve(KEY))
    assert "column 'train_loss' holds other things than numbers" in told or "a number is too large" in told


def test_curves_are_texts_and_an_endless_loss_is_no_number_to_draw(root: Path) -> None:  # noqa: F811
    path = paths.curves(KEY)
    beside(path, b"epoch,step,train_loss\n1,1,inf\n")
    assert frames.read_curve(KEY)["train_loss"].isna().all()
    beside(path, b"\xff\xfe")
    assert complaint(lambda: frames.read_curve(KEY)) == f"{path}: not a text in UTF-8"


def chain(levels: int) -> dict:
    layer = {"type": "identity"}
    for _ in range(levels):
        layer = {"type": "chain", "layers": [layer]}
    return layer


def padded(padding: int) -> dict:
    sizes = {"in": 1, "out": 1, "kernel": 1, "stride": 1, "padding": padding}
    return {"type": "chain", "layers": [{"type": "conv", "bias": False} | sizes, {"type": "global-mean-pool"}]}


SECTION = {"name": "s", "branch": None, "shortcut": {"type": "identity"}, "activation": {"type": "relu"}}
ODD_NETWORKS = {
    "an image of no memory": {"input_shape": [1, 10**5, 10**6]},
    "an image of no sizes": {"input_shape": [-1, 28, 28]},
    "a text as an image": {"input_shape": "abc"},
    "nothing as an image": {"input_shape": [0, 0, 0]},
    "an image that does not fit": {"input_shape": [1, 3, 3]},
    "an end without an end": {"stem": chain(300)},
    "an end within its end": {"stem": chain(40)},
    "a margin of no memory": {"stem": padded(10**6)},
    "very many sections": {"sections": [SECTION] * 6000},
    "a section whose name moves the cursor": {"sections": [SECTION | {"name": "\x1b[2J"}]},
    "a section whose name is none": {"sections": [SECTION | {"name": [1]}]},
    "a name that is a style": {"arch": "[bold]x[/red]"},
    "a name that is a number": {"arch": 3},
}


@pytest.mark.parametrize("case", ODD_NETWORKS)
def test_a_network_that_cannot_compute_is_refused_before_it_is_used(root: Path, case: str) -> None:  # noqa: F811
    description = json.loads(paths.arch(KEY).read_text()) | ODD_NETWORKS[case]
    line = complaint(lambda: storage.described(description, "arch.json"))
    assert line.startswith("arch.json: ") and line.isprintable()
