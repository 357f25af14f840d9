"""The benchmark's arithmetic, and that its parts run; the ratios themselves are not judged on a busy machine."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import __main__ as command
from bench import (
    engines,
    feeding,
    gates,
    inference,
    loader,
    on_gpu,
    reference,
    row_subset,
    runs,
    shared,
    steps,
    streams,
    throughput,
    timing,
)
from layerprune.core.gates.estimators import ESTIMATORS
from layerprune.core.measure import count_macs, count_params
from layerprune.core.timing import quartiles
from layerprune.core.training import compiled

pytestmark = pytest.mark.bench


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when a test moves it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_ratio_is_the_second_over_the_first(clock: list[float]) -> None:
    def lasts(seconds: float) -> None:
        clock[0] += seconds

    measured = timing.compare("x", lambda: lasts(2.0), lambda: lasts(6.0), rounds=5, target="<= 2.5")
    assert (measured.ratio, measured.low, measured.high) == (3.0, 3.0, 3.0)
    assert measured.meets_target is False


@pytest.mark.parametrize(("target", "met"), [("<= 1.10", True), (">= 3", False), ("", None)])
def test_a_target_bounds_the_median(target: str, met: bool | None) -> None:
    assert timing.Measurement("x", ratio=1.05, low=1.0, high=1.2, rounds=3, target=target).meets_target is met


def test_a_run_that_two_processes_share_is_measured() -> None:
    names = [each.name for each in shared.measure(rounds=1, steps=2)]
    assert names == [
        "dense step shared by 2 processes / each for itself, resnet-20",
        "gated step shared by 2 processes / each for itself, resnet-20",
        "gated step / dense step, shared by 2 processes, resnet-20",
        "theta's message / dense step, shared by 2 processes, resnet-20",
    ]


def test_feeding_counts_images_and_the_time_that_training_waits_for_them(clock: list[float]) -> None:
    case = feeding.Case(torch.device("cpu"), "fp32", batch=4, pixels=32, workers=0)

    class Slow:
        def _step(self, images: object, labels: object) -> None:
            clock[0] += 3.0

    def source():
        while True:
            clock[0] += 1.0
            yield None, None

    assert feeding.turn(Slow(), source(), case, steps=5) == feeding.Turn(rate=4 * 5 / 20, waiting=0.25)


def test_a_network_is_fed_from_memory_and_from_files_with_gates_and_without() -> None:
    case = feeding.Case(torch.device("cpu"), "fp32", batch=2, pixels=32, workers=0)
    measured = list(feeding.measure(rounds=1, steps=3, case=case))
    assert [each.name.partition(", ")[0] for each in measured] == [
        "dense training from files / dense training from memory",
        "gated training from files / dense training from files",
        *(f"{method} training from {place}" for method, place in feeding.WAYS),
    ]
    assert 0 < measured[2].ratio < measured[3].ratio < 1  # decoding takes longer than a gather


@pytest.mark.gpu
def test_a_gpu_is_fed() -> None:
    assert feeding.case_here().precision == "bf16"
    assert all(each.ratio > 0 for each in feeding.measure(rounds=1, steps=2))


def test_our_stream_and_torchvisions_deliver_as_many_images_of_one_size(tmp_path: Path) -> None:
    streams.write_images(tmp_path, 6)
    theirs = next(iter(streams.torchvision_loader(tmp_path, 0)))[0]
    assert theirs.shape == (6, 3, streams.SIZE, streams.SIZE)
    assert streams.against_torchvision(tmp_path, 0, "torchvision", rounds=1).ratio > 0


def test_quartiles_of_one_to_five() -> None:
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)


def test_every_kind_of_measurement_runs() -> None:
    measured = [
        steps.gated_against_dense("lenet-300-100", rounds=1),
        steps.pruned_against_small(4, 0, rounds=1),
        steps.pruned_against_whole(4, 2, rounds=1),
        loader.against_torchvision("shift", 0, images=300, rounds=1),
        inference.half_against_whole(1, rounds=1),
    ]
    assert all(each.ratio > 0 for each in measured)


def test_what_is_measured_on_a_gpu_runs_on_a_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "STEPS", 1)
    monkeypatch.setattr(on_gpu, "BATCH", 4)
    way = "resnet-8", "graphs", "fp32", torch.device("cpu")
    dense, gated = (on_gpu.step_of(way[0], method, *way[1:]) for method in ("dense", "gated"))
    measured = on_gpu.against("gated / dense", dense, gated, 1, way[-1])
    assert measured.ratio > 0 and "s an epoch against" in measured.note
    assert on_gpu.against_reference("resnet-8", 1, way[-1], workers=0).target == ">= 8"
    assert on_gpu.inference("resnet-8", 2, 1, way[-1]).ratio > 0
    assert on_gpu.recording("resnet-8", 1, 1, way[-1]).note.endswith(" s")


def test_a_pruned_step_is_one_without_every_second_section(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(on_gpu, "steps_of", lambda network, *_, **__: kept.append(network.keep()))
    on_gpu.step_of("resnet-8", "dense", "graphs", "bf16", torch.device("cpu"), pruned=True)
    on_gpu.step_of("resnet-8", "dense", "graphs", "bf16", torch.device("cpu"))
    assert kept == [[0, 1, 0], [1, 1, 1]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_measurement_says_so() -> None:
    with pytest.raises(SystemExit, match="no CUDA device"):
        list(on_gpu.measure(rounds=1))


@pytest.mark.parametrize(("left", "target"), [(0, ""), (5, "<= 1.0")])
def test_a_collapsed_run_is_no_gain(monkeypatch: pytest.MonkeyPatch, left: int, target: str) -> None:
    keep = [1] * left + [0] * (20 - left)
    trained = SimpleNamespace(outcome=SimpleNamespace(keep=keep))
    monkeypatch.setattr(runs, "train", lambda task: trained)
    measured = runs.gated_against_dense(rounds=1, epochs=1)
    assert measured.target == target and f"{left} of 20" in measured.note
    assert ("collapsed" in measured.note) is (left == 0)


# --- ResNets on CIFAR's shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 20])
def test_the_reference_network_costs_as_much_as_ours(depth: int) -> None:
    ours, theirs = steps.network_of(f"resnet-{depth}"), reference.ResNet(depth)
    assert count_macs(theirs, steps.CIFAR_SHAPE) == count_macs(ours, steps.CIFAR_SHAPE)
    assert count_params(theirs) == count_params(ours)
    assert theirs(torch.zeros(2, *steps.CIFAR_SHAPE)).shape == (2, steps.CLASSES)


def test_the_reference_draws_crops_and_normalises() -> None:
    data = steps.made_up_data(4, steps.CIFAR_SHAPE)
    images, labels = next(iter(reference.loader(data, batch=64, workers=0)))
    assert images.shape == (64, *steps.CIFAR_SHAPE) and labels.dtype == torch.int64
    assert images.is_contiguous() and len(torch.unique(images.flatten(1), dim=0)) > 4
    # 0 and 255, normalised with the data's own mean and deviation.
    ends = [(value - data.mean[0]) / data.std[0] for value in (0.0, 1.0)]
    assert [images.min().item(), images.max().item()] == pytest.approx(ends, abs=1e-4)


def test_the_reference_learns_from_its_steps() -> None:
    torch.manual_seed(0)
    data = steps.made_up_data(4, steps.CIFAR_SHAPE)
    step = reference.training(8, reference.loader(data, batch=8, workers=0), lr=0.05, momentum=0.9, weight_decay=0.0)
    losses = [step() for _ in range(25)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_ours_is_trained_with_as_many_images_as_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    kinds = {"resnet-8": steps.SectionedNetwork, "reference": reference.ResNet}
    for name, kind in kinds.items():
        forward = kind.forward

        def noting(self, x, *rest, forward=forward, name=name):
            if self.training:
                seen.append((name, *x.shape))
            return forward(self, x, *rest)

        monkeypatch.setattr(kind, "forward", noting)
    measured = throughput.against_reference("resnet-8", "eager", "bf16", "bf16", steps=2, rounds=1, batch=4, workers=1)
    assert sorted(seen) == sorted((name, 4, *steps.CIFAR_SHAPE) for name in kinds for _ in range(4))
    assert measured.target == ">= 2" and "2 threads each" in measured.note


def test_throughput_computes_with_two_threads_and_puts_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(throughput, "against_reference", lambda *case: seen.append((case[:4], torch.get_num_threads())))
    assert len(list(throughput.measure(rounds=1))) == 12
    assert [case for case, _ in seen] == [(f"resnet-{n}", *way) for n in (20, 56) for way in throughput.WAYS]
    assert {threads for _, threads in seen} == {2} and torch.get_num_threads() == 1


def test_engines_are_timed_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "_how", lambda on_gpu: {"backend": "eager"})  # no C++ compiler is needed
    monkeypatch.setattr(engines, "BATCH", 4)
    monkeypatch.setitem(engines.STEPS, "resnet-14", 1)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "is put back")
    compiled._graph.cache_clear()
    told = engines.first_steps("resnet-14", str(tmp_path))
    assert compiled._graph.cache_info().currsize == 5  # kinds of section
    assert told.first > 0 and told.first_cpu > 0 and len(told.removals) == 4
    measured = engines.compiled_against_eager("resnet-14", "gated", "bf16", rounds=1)
    assert measured.ratio > 0 and measured.note.endswith("images/s")
    compiled._graph.cache_clear()


def test_what_compiling_costs_has_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    told = engines.Compiling(40.0, 55.4, [0.0, 0.1, 0.2, 0.9])
    monkeypatch.setattr(engines, "_told_by_a_process", lambda arch: told)
    start, removal = engines.compiling("resnet-20", 1)
    assert (start.ratio, start.low, start.note, start.meets_target) == (40.0, 40.0, "55 CPU-seconds", False)
    assert (removal.rounds, removal.meets_target) == (4, True) and removal.high < 0.9


def test_every_estimator_is_timed_and_the_default_has_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = []

    def fake(network: object, method: str, settings: object, *rest: object) -> str:
        settled.append(settings)
        return method

    monkeypatch.setattr(gates, "network_of", lambda arch: None)
    monkeypatch.setattr(gates, "steps_of", fake)
    monkeypatch.setattr(gates, "compare", lambda name, first, second, rounds, target: (first, second, target))
    measured = list(gates.measure(rounds=1))
    gated = settled[1::2]
    assert [each[:2] for each in measured] == [("dense", "gated")] * 6
    assert {settings.estimator for settings in gated} == set(ESTIMATORS)
    assert [settings.drawn_share for settings in gated] == [1.0] * 4 + [0.25, 1.0]
    assert [each[2] for each in measured] == ["<= 1.08", "", "", "", "", "<= 1.08"]
    assert gated[0].estimator == gated[-1].estimator == "two_sided"


def test_a_gated_step_of_a_resnet_runs() -> None:
    assert gates.gated_against_dense("resnet-8", "drawn_share 0.25", rounds=1).ratio > 0


def test_gain_is_the_speed_up_times_the_share_of_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    speed_up = timing.Measurement("x", ratio=2.0, low=1.5, high=4.0, rounds=1, target=">= 0.9")
    monkeypatch.setattr(inference, "compare", lambda *rest: speed_up)
    monkeypatch.setattr(inference, "_share", lambda pruned, whole: 0.4)
    measured = inference.gain_from_removal("resnet-8", None, "a third", batch=1, rounds=1)
    assert (measured.ratio, measured.low, measured.high) == pytest.approx((0.8, 0.6, 1.6))
    assert measured.meets_target is False and measured.note == "speed-up 2.00, MACs 0.40"


@pytest.mark.parametrize(("arch", "width"), [("resnet-8", None), ("vgg16", 4)])
def test_the_pruned_side_comes_first_so_that_a_ratio_is_a_speed_up(
    arch: str, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(inference, "calling", lambda network, batch, calls: given.append(sum(network.keep())))
    monkeypatch.setattr(
        inference, "compare", lambda name, first, second, rounds, target: timing.Measurement(name, 1.0, 1.0, 1.0, 1)
    )
    measured = inference.gain_from_removal(arch, width, "two thirds", batch=1, rounds=1)
    assert given[0] < given[1] and measured.ratio < 1


@pytest.mark.parametrize(
    ("sections", "share", "gone"),
    [(9, 1 / 3, [2, 5, 8]), (9, 2 / 3, [1, 2, 4, 5, 7, 8]), (13, 1 / 3, [3, 6, 9, 12]), (3, 0, [])],
)
def test_sections_go_evenly(sections: int, share: float, gone: list[int]) -> None:
    assert inference.evenly(sections, share) == gone


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts that were measured; each has one measurement named after it."""
    done: list[str] = []

    def fake(name: str):
        def measure(quick: bool):
            done.append(name)
            yield timing.Measurement(name, ratio=2.5, low=2.0, high=3.0, rounds=3, target=">= 2", note="a note")

        return measure

    monkeypatch.setattr(command, "PARTS", {name: fake(name) for name in command.PARTS})
    return done


def test_named_parts_run_alone_and_without_names_all(parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["throughput", "inference"])
    assert parts == ["throughput", "inference"]
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["throughput", "2.50", "2.00", "..", "3.00", ">=", "2", "met", "a", "note"]
    parts.clear()
    command.main([])
    assert parts == command.usual_parts()


def test_an_unknown_part_is_named(parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["speed"])
    assert stop.value.code == 2 and parts == []
    assert "unknown part 'speed' (known: steps, gates," in capsys.readouterr().err


# --- branches of open rows only -------------------------------------------------------------------------------


def test_open_rows_only_give_what_closed_gates_give() -> None:
    images = torch.rand(6, *steps.CIFAR_SHAPE, generator=torch.Generator().manual_seed(1))
    network = steps.network_of("resnet-8").eval()
    gates = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.float32)[..., None]
    masked = network(images, gates)
    subset = row_subset.open_rows(network)
    row_subset.step_of_open_rows(subset, images, torch.zeros(6, dtype=torch.long), gates)
    torch.testing.assert_close(subset(images, gates), masked)


def test_the_true_difference_is_that_of_the_mean_losses() -> None:
    """With one section: the mean loss with it minus the mean loss without."""
    network = steps.network_of("mlp-residual-1").eval()
    images = torch.rand(5, *steps.SHAPE, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(5)
    with torch.no_grad():
        opened, closed = (
            torch.nn.functional.cross_entropy(network(images, torch.full((1, 1, 1), value)), labels)
            for value in (1.0, 0.0)
        )
    torch.testing.assert_close(row_subset.true_delta(network, images, labels), (opened - closed).view(1))


def test_errors_are_shares_of_the_true_differences() -> None:
    """Of a network whose gates hardly matter to a loss that is nearly linear in them, both readings are near."""
    network = steps.network_of("mlp-residual-2").eval()
    with torch.no_grad():
        for section in network.sections:
            section.branch[-1].weight.mul_(1e-2)
    images = torch.rand(64, *steps.SHAPE, generator=torch.Generator().manual_seed(1))
    both, one = row_subset.errors(network, images, torch.arange(64) % 10, seed=0)
    assert 0 < both < 0.5 and 0 < one < 0.5
