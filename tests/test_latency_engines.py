"""Latency of single networks and of anybody's modules, by engine and precision; what cannot run is one line."""

import csv
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import filelock
import numpy as np
import pytest
import torch
from networks import make
from torch import nn

import layerprune
from layerprune import cli
from layerprune.core import surgery, timing
from layerprune.core.measure import count_macs
from layerprune.core.networks import storage
from layerprune.errors import LayerpruneError
from layerprune.library import onnx_files
from layerprune.library.latency import engines, machine, measuring, onnx_passes
from layerprune.library.latency.cuda_graphs import Graphed
from layerprune.library.latency.engines import MeasuredModel
from layerprune.library.latency.measuring import Conditions, chosen
from layerprune.suite import latency
from layerprune.suite.latency import COLUMNS, measure_networks
from layerprune.system import paths

CPU = torch.device("cpu")
SHAPE = (1, 6, 6)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short measurements, on locks of the test's own; compiled without a compiler of C++, which takes its time."""
    monkeypatch.setattr(engines, "BACKEND", "eager")
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(tmp_path / "root"))


def network(gone: tuple[int, ...] = ()) -> nn.Module:
    made = make("mlp-residual-4", shape=SHAPE).eval()
    surgery.remove(made, gone)
    return made


def run_folder(parent: Path, name: str = "dense", gone: tuple[int, ...] = ()) -> Path:
    """A run's folder with a network and nothing else."""
    folder = parent / "results/tiny/mnist/mlp-residual-4" / name / "default/seed3"
    made = network(gone)
    storage.save(made, paths.arch_in(folder), paths.weights_in(folder))
    return folder


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def measured(models: dict[str, nn.Module], **options: object) -> tuple[list[dict], list[str]]:
    """What the library measures of models, without remarks on the machine, and what it says."""
    said: list[str] = []
    values = {"batches": (1, 2), "repeats": 2, "say": said.append} | options
    rows = layerprune.measure_latency(models, torch.zeros(1, *SHAPE), **values)
    return rows, [text for text in said if "not idle" not in text]


# --- engines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "precision"), [("eager", "fp32"), ("eager", "bf16"), ("compiled", "fp32"), ("onnxruntime", "fp32")]
)
def test_every_engine_measures_every_model(engine: str, precision: str) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnxruntime")
    models = {"whole": network(), "less": network((0, 1))}
    rows, said = measured(models, engines=[engine], precisions=[precision])
    assert said == []
    assert [(row["model"], row["batch"]) for row in rows] == [(name, batch) for batch in (1, 2) for name in models]
    for row in rows:
        assert (row["engine"], row["precision"], row["repeats"], row["threads"]) == (engine, precision, 2, 1)
        assert 0 < row["low_ms"] <= row["median_ms"] <= row["high_ms"]
        assert row["macs"] == count_macs(models[row["model"]], SHAPE)
        assert row["device"] == "cpu" and row["hardware"]


def test_the_modules_stay_as_they_were() -> None:
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measured({"model": model}, precisions=["bf16", "fp32"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"models": network()}, r"models are modules by name, as {.*}, not SectionedNetwork"),
        ({"models": {"a": lambda x: x}}, "models are modules by name, as {.*}, not function"),
        ({"models": {}}, "give a model, and batches"),
        ({"example_input": None}, r"example_input is a tensor \[B, ...\], not None"),
        ({"batches": 1}, "batches are whole numbers in a list, not 1"),
        ({"batches": ["a"]}, r"batches are whole numbers in a list, not \['a'\]"),
        ({"batches": [1.5]}, r"batches are whole numbers in a list, not \[1.5\]"),
        ({"batches": [0]}, "batches, threads and repeats of 1 or more"),
        ({"repeats": "3"}, "repeats is a whole number, not '3'"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(given: dict, complaint: str) -> None:
    values = {"models": {"a": network()}, "example_input": torch.zeros(1, *SHAPE), "batches": (1,)} | given
    with pytest.raises(LayerpruneError, match=f"^measure_latency: .*{complaint}"):
        layerprune.measure_latency(**values)


def test_a_network_compared_with_itself_is_remarked_upon() -> None:
    _, said = measured({"whole": network((0,)), "other": network((1,)), "smaller": network((0,))}, batches=(1,))
    assert len(said) == 1 and said[0].startswith("whole and smaller have the same layers; ") and "deepcopy" in said[0]


@pytest.mark.slow
def test_the_compiler_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no compiler of C++")
    monkeypatch.setattr(engines, "BACKEND", "inductor")
    engines.try_out("compiled", "fp32", CPU, 1)


class Deaf(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nand more")


def test_what_cannot_run_is_one_line_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("No working C++ compiler found\nmore of it")

    monkeypatch.setattr(engines.torch, "compile", no_compiler)
    rows, said = measured(
        {"good": network(), "deaf": Deaf()}, engines=["compiled", "onnxruntime", "eager"], precisions=["bf16", "fp32"]
    )
    assert said[:3] == [
        "compiled, bf16: left out: No working C++ compiler found",
        "compiled, fp32: left out: No working C++ compiler found",
        "onnxruntime, bf16: left out: onnxruntime is measured in fp32 only, not in bf16",
    ]
    assert "eager, fp32, batch 2: left out: deaf: mat1 and mat2 shapes cannot be multiplied" in said
    assert not any("\n" in text for text in said)
    eager = [(row["model"], row["precision"], row["batch"]) for row in rows if row["engine"] == "eager"]
    assert eager == [("good", precision, batch) for precision in ("bf16", "fp32") for batch in (1, 2)]


def test_a_batch_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = MeasuredModel("", network(), SHAPE).bytes_needed(1)
    assert needed == 3 * 100 * 4  # the widest layer's outputs, three times
    monkeypatch.setattr(machine, "free_bytes", lambda: 5 * needed)
    rows, said = measured({"model": network()}, batches=(1, 5, 6))
    assert [row["batch"] for row in rows] == [1, 5]
    assert said == ["eager, fp32, batch 6: left out: does not fit into memory"]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to ...")])
def test_memory_that_is_refused_is_said(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setitem(engines._PREPARING, "eager", refuse)
    with pytest.raises(LayerpruneError, match=r"^does not fit into memory$"):
        engines.try_out("eager", "fp32", CPU, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["eager", "compiled", "graphed"])
def test_a_gpu_is_measured(engine: str) -> None:
    rows, said = measured({"model": network()}, engines=[engine], precisions=["fp32", "bf16"], device="cuda")
    assert said == [] and len(rows) == 4 and all(row["device"] == "cuda" and row["clock"] for row in rows)


@pytest.mark.gpu
def test_a_graph_computes_what_its_network_does_of_what_stands_in_its_input() -> None:
    module, x = network().cuda(), torch.rand(2, *SHAPE, device="cuda")
    with torch.inference_mode():
        graphed = Graphed(lambda: module(x))
        x.mul_(2)
        torch.testing.assert_close(graphed(), module(x))


class StandIn:
    """What of torch.cuda graphs and events ask for, noted in order; its clock ticks a millisecond a call."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.now = 0.0

    def work(self) -> str:
        self.now += 1.0
        self.notes.append("work")
        return "output"

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        self.notes.append(f"{name} {{")
        yield
        self.notes.append("}")

    def stream(self, stream: object) -> AbstractContextManager[None]:
        return self._noted("aside")

    def graph(self, graph: object) -> AbstractContextManager[None]:
        return self._noted("recorded")

    def device(self, device: torch.device) -> AbstractContextManager[None]:
        return self._noted(f"on {device}")

    def Stream(self) -> SimpleNamespace:
        return SimpleNamespace(wait_stream=lambda other: self.notes.append("aside waits"))

    def current_stream(self, device: object = None) -> SimpleNamespace:
        return SimpleNamespace(wait_stream=lambda other: self.notes.append("caller waits"))

    def CUDAGraph(self) -> SimpleNamespace:
        return SimpleNamespace(replay=lambda: self.notes.append("replay"))

    def Event(self, enable_timing: bool) -> SimpleNamespace:
        assert enable_timing
        made = SimpleNamespace(synchronize=lambda: self.notes.append("wait"))
        made.record = lambda stream: (setattr(made, "at", self.now), self.notes.append("event"))
        made.elapsed_time = lambda later: later.at - made.at
        return made


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    for name in ("stream", "graph", "device", "Stream", "current_stream", "CUDAGraph", "Event"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    return stand_in


def test_a_graph_is_recorded_once_warm_and_then_replayed(cuda: StandIn) -> None:
    graphed = Graphed(cuda.work)
    warm = ["work"] * timing.WARM_UP
    assert cuda.notes == ["aside waits", "aside {", *warm, "}", "caller waits", "recorded {", "work", "}"]
    cuda.notes.clear()
    assert [graphed(), graphed()] == ["output", "output"] and cuda.notes == ["replay", "replay"]


def test_a_gpus_time_lies_between_two_events_around_all_calls(cuda: StandIn) -> None:
    gpu = torch.device("cuda:1")
    assert timing.seconds_by_events(cuda.work, gpu, calls=3) == pytest.approx(0.003)
    assert cuda.notes == ["event", "work", "work", "work", "event", "wait"]


def test_milliseconds_of_a_gpu_are_by_events_and_those_of_a_cpu_by_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds", lambda work, device, calls=1: 0.5 * calls)
    monkeypatch.setattr(timing, "seconds_by_events", lambda work, device, calls=1: 0.007 * calls)
    assert timing.milliseconds([None], 2, torch.device("cuda")) == [[pytest.approx(7.0)] * 2]
    assert timing.milliseconds([None], 2, CPU) == [[500.0] * 2]


def test_a_graph_is_made_on_the_device_that_was_asked_for(cuda: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_eager", lambda *_: cuda.work)
    engines._graphed(MeasuredModel("", network(), SHAPE), "fp32", 1, torch.device("cuda:1"), 1)()
    assert cuda.notes[0] == "on cuda:1 {" and cuda.notes[-2:] == ["}", "replay"]


def test_a_graph_without_a_gpu_and_no_batches_are_refused_in_a_line() -> None:
    rows, said = measured({"model": network()}, engines=["graphed", "eager"], batches=(1,))
    assert said == ["graphed, fp32: left out: CUDA graphs need a GPU"] and len(rows) == 1
    with pytest.raises(LayerpruneError, match="give a model, and batches"):
        measured({"model": network()}, batches=())


@pytest.mark.parametrize(
    ("device", "batches"), [("cpu", (1, 32, 256)), ("cuda", tuple(2**power for power in range(9)))]
)
def test_a_gpu_is_measured_at_more_batch_sizes(device: str, batches: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(measuring, "choose_device", torch.device)
    monkeypatch.setattr(measuring, "measure", lambda models, conditions, say: asked.append(conditions) or [])
    assert measured({"model": network()}, device=device, batches=None) == ([], [])
    assert asked[0].batches == batches and asked[0].device.type == device


# --- the machine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "most", "expected"),
    [
        ("cpu MHz\t\t: 2100.5\ncpu MHz : 3300.25\n", "3500000\n", "3300 of 3500 MHz"),
        ("cpu MHz : 2596.1\n", "", "2596 MHz"),
        ("", "3500000\n", "at most 3500 MHz"),
        ("", "", ""),
    ],
)
def test_the_clock_is_told_as_far_as_it_is_known(
    told: str, most: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"cpuinfo": told, "cpuinfo_max_freq": most}
    monkeypatch.setattr(machine, "_text", lambda path: texts[path.name])
    assert machine.clock(CPU) == expected


def test_two_measurements_never_run_at_once_wherever_they_were_asked_for(tmp_path: Path) -> None:
    with machine.alone(1, lambda text: None), pytest.raises(LayerpruneError, match="another process is measuring"):
        measured({"model": network()})
    with filelock.FileLock(next(tmp_path.glob("layerprune-latency-*.lock"))), pytest.raises(LayerpruneError):
        measure_networks([run_folder(tmp_path)], Conditions(CPU), lambda text: None)
    assert measured({"model": network()}, batches=(1,))[0]


# --- folders and files ------------------------------------------------------------------------------------------

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`layerprune latency` with these words: status, stdout, stderr without the remark on the load."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["layerprune", "latency", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, "".join(line for line in err.splitlines(True) if "not idle" not in line)

    return call


def test_runs_take_turns_and_their_rows_lie_beside_their_records(tmp_path: Path, command: Command) -> None:
    folders = [run_folder(tmp_path), run_folder(tmp_path, "gated", gone=(1, 2))]
    code, out, err = command(*folders, "--repeats", 2, "--batch", 1, "--precision", "fp32,bf16")
    assert (code, err) == (0, "")
    *numbers, first, second = out.splitlines()
    assert [first, second] == [str(folder / "latency.csv") for folder in folders]
    told = [line.removeprefix(str(folder)).split() for folder in folders for line in numbers if str(folder) in line]
    assert [words[:4] for words in told] == 2 * [["batch", "1", "eager", "bf16"], ["batch", "1", "eager", "fp32"]]
    for folder, words in zip(folders, told[1::2], strict=True):
        row = rows_of(folder / "latency.csv")[1]
        assert (
            words[4:]
            == f"{float(row['median_ms']):.3f} ms [{float(row['low_ms']):.3f}, {float(row['high_ms']):.3f}]".split()
        )
    for folder, method, gone in zip(folders, ("dense", "gated"), ((), (1, 2)), strict=True):
        rows = rows_of(folder / "latency.csv")
        assert tuple(rows[0]) == COLUMNS and [row["precision"] for row in rows] == ["bf16", "fp32"]
        for row in rows:
            assert (row["arch"], row["method"], row["seed"]) == ("mlp-residual-4", method, "3")
            assert int(row["macs"]) == count_macs(network(gone), SHAPE) and float(row["median_ms"]) > 0


def test_a_program_and_an_onnx_file_are_measured(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("onnxruntime")
    files = [tmp_path / "less.pt2", tmp_path / "less.onnx"]
    for file in files:
        layerprune.save(network((0,)), file, torch.zeros(1, *SHAPE))
    code, out, err = command(*files, "--repeats", 1, "--batch", 3, "--engine", "eager,onnxruntime")
    assert code == 0 and out.splitlines()[-2:] == [f"{file}.latency.csv" for file in files]
    for name, engine in (("less.pt2", "eager"), ("less.pt2", "onnxruntime"), ("less.onnx", "onnxruntime")):
        assert sum(line.startswith(name) and f"batch    3  {engine} fp32" in line for line in out.splitlines()) == 1
    assert err.splitlines() == [f"eager, fp32: left out: {files[1]}: only onnxruntime runs ONNX files"]
    of_program, of_onnx = (rows_of(Path(f"{file}.latency.csv")) for file in files)
    assert [row["engine"] for row in of_program] == ["eager", "onnxruntime"]
    assert {int(row["macs"]) for row in of_program} == {count_macs(network((0,)), SHAPE)}
    assert [(row["engine"], row["macs"], row["arch"]) for row in of_onnx] == [("onnxruntime", "", "less.onnx")]


def test_where_nothing_at_all_can_be_measured_it_is_an_error_and_there_is_no_table(
    tmp_path: Path, command: Command
) -> None:
    layerprune.save(network((0,)), tmp_path / "less.pt2", torch.zeros(1, *SHAPE))
    code, out, err = command(tmp_path / "less.pt2", "--batch", 1, "--engine", "graphed", "--device", "cpu")
    assert code == 2 and out == "" and "CUDA graphs need a GPU" in err.splitlines()[0]
    assert err.splitlines()[-1].endswith(f"{tmp_path}/less.pt2: nothing could be measured")
    assert [path.name for path in tmp_path.glob("*.csv")] == []


def constant(numbers: int) -> bytes:
    """An ONNX file of some bytes that makes so many numbers."""
    from onnx import TensorProto, helper, numpy_helper

    shape = numpy_helper.from_array(np.array([numbers // 1000, 1000]), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["made"]),
        helper.make_node("ReduceSum", ["made"], ["sum"], keepdims=0),
        helper.make_node("Add", ["input", "sum"], ["output"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_an_onnx_file_of_a_hundred_terabytes_is_left_out_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "bomb.onnx").write_bytes(constant(25 * 10**12))
    model = latency._of_onnx(tmp_path / "bomb.onnx")
    said: list[str] = []
    conditions = Conditions(torch.device("cpu"), batches=(1,), repeats=1, engines=("onnxruntime",))
    assert list(measuring.measure([model], conditions, said.append)) == []
    (line,) = said
    assert line.startswith("onnxruntime, fp32, batch 1: left out: ") and len(line) < 300 and "\n" not in line
    assert capfd.readouterr().err == ""  # onnxruntime has a log of its own


def loop_of(nodes: list, **constants: object) -> bytes:
    """An ONNX file with a loop of so many empty steps as nodes and constants say: onnxruntime cannot be told to leave
    it."""
    from onnx import TensorProto, helper

    def floats(name: str, shape: list | None) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    step, going = (helper.make_tensor_value_info(*each, []) for each in (("step", TensorProto.INT64), ("going", 9)))
    body = helper.make_graph([], "body", [step, going, floats("x", None)], [going, floats("x", None)])
    loop = helper.make_node("Loop", ["steps", "yes", "input"], ["output"], body=body)
    return as_onnx([*nodes, loop], floats("input", ["batch", 4]), floats("output", ["batch", 4]), yes=True, **constants)


def as_onnx(nodes: list, taken: object, given: object, **constants: object) -> bytes:
    from onnx import helper, numpy_helper

    held = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", [taken], [given], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def endless_at_the_third_pass() -> bytes:
    """A loop of 2^62 steps if what it draws is no smaller than what it draws the third time."""
    from onnx import TensorProto, helper

    def drawn_by(seed: int) -> list[float]:
        given = helper.make_tensor_value_info("drawn", TensorProto.FLOAT, [])
        taken = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])
        opened = onnx_files.session(as_onnx([draw(seed)], taken, given, one=np.float32(1)))
        return [float(opened.run(None, {"input": np.zeros((1, 4), np.float32)})[0]) for _ in range(3)]

    def draw(seed: int) -> object:
        return helper.make_node("RandomUniformLike", ["one"], ["drawn"], seed=float(seed))

    seed, limit = next((seed, drawn[2]) for seed in range(100) if max(drawn := drawn_by(seed)) == drawn[2])
    chosen = [helper.make_node("Less", ["drawn", "limit"], ["small"])]
    chosen += [helper.make_node("Where", ["small", "few", "many"], ["steps"])]
    return loop_of([draw(seed), *chosen], one=np.float32(1), limit=np.float32(limit), few=1, many=2**62)


def slow_to_open() -> bytes:
    """Products of constants, which onnxruntime makes when it opens a file: half an hour of them."""
    from onnx import TensorProto, helper, numpy_helper

    value = numpy_helper.from_array(np.array([1e-3], np.float32))
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["p0"], value=value)]
    nodes += [helper.make_node("MatMul", [f"p{place}", f"p{place}"], [f"p{place + 1}"]) for place in range(1000)]
    nodes += [
        helper.make_node("ReduceMean", ["p1000"], ["mean"]),
        helper.make_node("Add", ["input", "mean"], ["output"]),
    ]
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "output"))
    return as_onnx(nodes, *ends, shape=[4000, 4000])


def test_however_late_a_busy_machine_lets_us_wait_a_pass_that_never_ends_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process counts from when it was asked."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_passes, "MOST_SECONDS", 2.0)
    (tmp_path / "loop.onnx").write_bytes(loop_of([], steps=2**62))
    passes = onnx_passes.Passes(tmp_path / "loop.onnx", 1, 1)
    flush = passes.process.stdin.flush
    slow = SimpleNamespace(write=passes.process.stdin.write, flush=lambda: (flush(), time.sleep(1)))
    monkeypatch.setattr(passes.process, "stdin", slow)
    monkeypatch.setattr(passes, "close", lambda: None)  # it would close the stand-in; the process ends by itself
    with pytest.raises(LayerpruneError, match="a pass takes more than 2 seconds"):
        passes()


def test_an_onnx_file_that_never_ends_is_left_out_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_passes, "MOST_SECONDS", 3.0)
    (tmp_path / "loop.onnx").write_bytes(loop_of([], steps=2**62))
    code, out, err = command(tmp_path / "loop.onnx", "--engine", "onnxruntime", "--batch", 1)
    assert code == 2 and out == ""
    left_out, error = err.splitlines()
    assert left_out == "onnxruntime, fp32, batch 1: left out: a pass takes more than 3 seconds"
    assert error.endswith("loop.onnx: nothing could be measured")


@pytest.mark.parametrize(
    "made, told", [(slow_to_open, "opening it takes"), (endless_at_the_third_pass, "a pass takes")]
)
def test_an_onnx_file_that_only_opens_for_ever_or_only_sometimes_ends_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, made: Callable[[], bytes], told: str
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_passes, "MOST_SECONDS", 3.0)
    (tmp_path / "x.onnx").write_bytes(made())
    code, out, err = command(tmp_path / "x.onnx", "--engine", "onnxruntime", "--batch", 1)
    assert code == 2 and out == ""
    (error,) = err.splitlines()
    assert error.endswith(f"x.onnx: {told} more than 3 seconds")


@pytest.fixture
def passes(tmp_path: Path) -> Iterator[Callable[[], onnx_passes.Passes]]:
    """Passes of an ONNX file that adds up constants."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "sum.onnx").write_bytes(constant(1000))
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(onnx_passes.Passes(tmp_path / "sum.onnx", batch=2, threads=1)))


def test_an_onnx_file_of_which_onnxruntime_dies_is_said_in_one_line(passes: Callable) -> None:
    made = passes()
    made.process.send_signal(signal.SIGSEGV)
    made.process.wait()
    with pytest.raises(LayerpruneError, match=r"sum.onnx: onnxruntime crashes on it \(SIGSEGV\)$"):
        made.seconds(1)


def test_a_process_that_cannot_start_is_not_called_late(passes: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_passes.onnx_process, "__file__", "/nowhere.py")
    with pytest.raises(LayerpruneError, match=r"^onnxruntime crashes on it \(status 2\)$"):
        passes()


def test_passes_are_timed_by_their_own_process(passes: Callable) -> None:
    made = passes()
    few, many = (min(timing.seconds(made, CPU, calls) for _ in range(5)) for calls in (1, 1000))
    assert 0 < few < many
    made.seconds = lambda calls: 0.007 * calls
    assert timing.milliseconds([made], 2) == [[pytest.approx(7.0)] * 2]


def test_passes_that_nobody_holds_end_their_process(passes: Callable) -> None:
    made = passes()
    made.close()
    assert made.process.wait(timeout=10) is not None


def test_what_lies_beside_an_onnx_file_is_no_module_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: Callable
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("numpy.py").write_text("open('canary', 'w')")
    passes()
    assert not Path("canary").exists()


def test_the_default_batches_of_a_single_network(tmp_path: Path, command: Command) -> None:
    folder = run_folder(tmp_path)
    moved = folder.rename(tmp_path / "elsewhere")
    assert command(moved, "--repeats", 1)[0] == 0
    rows = rows_of(moved / "latency.csv")
    assert [int(row["batch"]) for row in rows] == [1, 32, 256] and {row["arch"] for row in rows} == {"mlp-residual-4"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "nowhere: no such run folder or file"),
        (["FOLDER"], "arch.json: no such file"),
        (["FOLDER/x.pt2"], "x.pt2: not a program of torch.export"),
        (["--engine", "eager,tvm"], "--engine: 'tvm' is not known (known: eager, compiled, graphed, onnxruntime)"),
        (["--precision", "fp64"], "--precision: 'fp64' is not known (known: fp32, bf16)"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], expected: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.pt2").write_bytes(b"no program")
    code, out, err = command(*(word.replace("FOLDER", str(tmp_path / "folder")) for word in words))
    assert (code, out) == (2, "") and expected in err and len(err.splitlines()) == 1


def test_words_with_commas_are_taken_once_each() -> None:
    assert chosen("--engine", "eager, compiled,eager", ("eager", "compiled")) == ("eager", "compiled")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"engines": ["tvm"]}, "engines: 'tvm' is not known"),
        ({"precisions": ["fp8"]}, "precisions: 'fp8' is not known"),
        ({"batches": (0,)}, "batches, threads and repeats of 1 or more"),
        ({"device": "tpu"}, "'tpu' is not a device"),
    ],
)
def test_the_library_refuses_mistakes_in_one_line(options: dict, complaint: str) -> None:
    with pytest.raises(LayerpruneError, match=complaint):
        measured({"model": network()}, **options)


def test_a_module_is_asked_for() -> None:
    with pytest.raises(LayerpruneError, match="give a model"):
        measured({})


def test_networks_of_one_combination_are_measured_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []

    def fake(works: list, repeats: int, device: torch.device) -> list[list[float]]:
        together.append(len(works))
        return [[1.0] * repeats for _ in works]

    monkeypatch.setattr(timing, "milliseconds", fake)
    found = [MeasuredModel(name, network(), SHAPE) for name in "abc"]
    conditions = Conditions(CPU, batches=(1, 2), precisions=("fp32", "bf16"))
    assert len(list(measuring.measure(found, conditions, lambda text: None))) == 12 and together == [3] * 4
