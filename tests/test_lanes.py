"""Runs that share a process, a lane each, come out as if each had been made alone, and all of them end in good time."""

import copy
import importlib
import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from campaign_helpers import (
    DENSE,
    GATED,
    MAGNITUDE,
    PRESET,
    RANDOM,
    RUNS,
    kill_group,
    make,
    numbers,
    run_key,
    start_campaign,
    wait_for,
    write_study,
)
from networks import make as make_network
from networks import random_data

from layerprune.analysis import frames
from layerprune.core.data.loading import Reading
from layerprune.core.methods import families
from layerprune.core.methods.base import TrainingMethod
from layerprune.core.methods.scores import random as random_score
from layerprune.core.training.section_scores import draw_sample, metered_score
from layerprune.errors import LayerpruneError
from layerprune.suite import config, record, store
from layerprune.suite import run as running
from layerprune.suite.campaign import command, lanes, measuring, opening, places, selftest, sweep
from layerprune.suite.campaign.conduct import Campaign, Limits
from layerprune.suite.campaign.host import Host, SharedData
from layerprune.suite.campaign.lanes import Lanes
from layerprune.suite.campaign.places import Commands, Places
from layerprune.suite.run.prepare import Lane
from layerprune.system import devices, files, paths
from layerprune.system.paths import RunKey
from layerprune.system.processes import Notice

CPU = torch.device("cpu")
SEEDS = [run_key("dense", seed=seed) for seed in (0, 1)]


@pytest.fixture
def march(root: Path) -> Path:
    """A root with the preset and the plan `march`."""
    return write_study(root)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Numbers of runs that were made one after the other, without lanes."""
    runs = [*RUNS, *SEEDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(write_study(tmp_path_factory.mktemp("alone"))))
        make(runs)
        return numbers(runs)


class Served:
    """A host that another thread talks to."""

    def __init__(self, count: int) -> None:
        self.messages: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.answers: dict[Any, dict[str, Any]] = {}
        preset = config.load_preset("march")
        host = Host(preset, "cpu", 1, lambda answer: self.answers.update({answer["id"]: answer}))
        self.thread = threading.Thread(target=host.serve, args=(iter(self.messages.get, None),))
        self.thread.start()
        self.tell("open", count=count)

    def tell(self, what: str, **told: Any) -> None:
        self.messages.put({"do": what} | told)

    def run(self, *keys: RunKey) -> None:
        for key in keys:
            self.tell("run", id=str(key), run=str(key))

    def wait(self, *keys: RunKey) -> list[int]:
        """How these runs ended."""
        until = time.monotonic() + 120
        while not {str(key) for key in keys} <= self.answers.keys():
            assert time.monotonic() < until, self.answers
            time.sleep(0.02)
        return [self.answers[str(key)]["status"] for key in keys]

    def close(self) -> None:
        self.messages.put(None)
        self.thread.join()


@pytest.fixture
def served(march: Path) -> Iterator[Callable[[int], Served]]:
    """Opens lanes; they are closed with the test."""
    opened: list[Served] = []

    def serve(count: int) -> Served:
        opened.append(Served(count))
        return opened[-1]

    yield serve
    for each in opened:
        each.close()


# --- the same numbers -------------------------------------------------------------------------------------------


def test_runs_side_by_side_are_those_made_alone_and_say_that_they_were(
    served: Callable[[int], Served], alone: dict[str, dict]
) -> None:
    host = served(3)
    host.run(*SEEDS, GATED)
    assert host.wait(*SEEDS, GATED) == [0, 0, 0]
    host.run(MAGNITUDE, RANDOM)
    assert host.wait(MAGNITUDE, RANDOM) == [0, 0]
    made = [*RUNS, *SEEDS]
    assert numbers(made) == {str(key): alone[str(key)] for key in made}
    assert {store.find(key).provenance.lanes for key in made} == {3}


def test_a_record_says_that_it_was_made_in_lanes_and_others_say_nothing(march: Path) -> None:
    make([DENSE])
    alone = store.find(DENSE)
    assert "lanes" not in alone.model_dump(mode="json")["provenance"]
    shared = alone.model_copy(update={"provenance": alone.provenance.model_copy(update={"lanes": 4})})
    record.write(paths.record(DENSE), shared)
    assert store.find(DENSE).provenance.lanes == 4
    assert store.find(DENSE).digest() == alone.digest() and store.find(DENSE).comparable() == alone.comparable()


@pytest.mark.parametrize("count", [None, 2])
def test_wall_times_of_lanes_are_compared_with_none(march: Path, count: int | None) -> None:
    make([DENSE])
    made = store.find(DENSE)
    shared = made.model_copy(update={"provenance": made.provenance.model_copy(update={"lanes": count})})
    record.write(paths.record(DENSE), shared)
    runs = frames.read_study("march", "digits", partial=True).runs
    (seconds,) = runs[(runs["method"] == "dense") & (runs["seed"] == 0)]["wall_seconds"]
    assert (seconds == made.wall_seconds) if count is None else math.isnan(seconds)


@pytest.mark.parametrize("method", [slug for slug, family in families().items() if family == "scores"])
def test_no_score_draws_from_the_generator_that_lanes_share(method: str) -> None:
    network = make_network("resnet-14", shape=(3, 8, 8))
    network.fix([section for section in network.sections if not section.preserves_shape])  # which some cannot score
    sample = draw_sample(random_data(shape=(3, 8, 8)), "validation", 17, 0)
    module = importlib.import_module(f"layerprune.core.methods.scores.{method.replace('-', '_')}")
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        scores.append(metered_score(module.score, network, sample, 3)[0])
        assert torch.equal(torch.get_rng_state(), before)
    assert scores[0] == scores[1]


def test_scores_of_two_threads_do_not_disturb_each_other() -> None:
    network, sample, met = make_network("mlp-residual-4"), draw_sample(random_data(), "validation", 17, 0), []
    gate = threading.Barrier(2)

    def score(model: Any, batches: Any) -> torch.Tensor:
        first = random_score.score(model, batches)
        gate.wait(10)
        return first + random_score.score(model, batches)

    def one(seed: int) -> None:
        met.append((seed, metered_score(score, copy.deepcopy(network), sample, seed)[0]))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate = SimpleNamespace(wait=lambda _: None)
    alone = {seed: metered_score(score, network, sample, seed)[0] for seed in (0, 1)}
    assert dict(met) == alone


def test_threads_that_write_one_file_leave_it_whole(tmp_path: Path) -> None:
    gate, contents = threading.Barrier(2), [b"a" * 100, b"b" * 200]

    def write(content: bytes) -> None:
        def fill(stream: Any) -> None:
            stream.write(content[:50])
            gate.wait(10)
            stream.write(content[50:])
            gate.wait(10)

        files.write_atomically(tmp_path / "file", fill)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents and len(list(tmp_path.iterdir())) == 1


def test_constants_are_read_by_many_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython 3.11 fails where two threads parse at the same time."""
    busy, parse = threading.Lock(), files.ast.parse

    def slow(text: bytes) -> Any:
        assert busy.acquire(blocking=False), "two threads parse at once"
        try:
            time.sleep(0.05)
            return parse(text)
        finally:
            busy.release()

    monkeypatch.setattr(files.ast, "parse", slow)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(files.constant_in.__wrapped__, [Path(random_score.__file__)] * 3, ["VERSION"] * 3))
    assert found == [random_score.VERSION] * 3


def test_lanes_read_a_data_set_once(march: Path) -> None:
    shared = SharedData()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: shared("digits", march, CPU, Reading()), range(3)))
    assert found[0] is found[1] is found[2]


def test_float32_is_float32_in_every_run(march: Path) -> None:
    """Torch's own default rounds the inputs of convolutions to TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    make([DENSE])
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


# --- the end ----------------------------------------------------------------------------------------------------


def test_told_to_end_every_lane_stores_where_it_is_and_others_go_on_from_there(
    served: Callable[[int], Served], alone: dict[str, dict]
) -> None:
    first = served(2)
    first.run(*SEEDS)
    for key in SEEDS:
        wait_for(paths.state(key))
    first.tell("end")
    assert first.wait(*SEEDS) == [75, 75]
    second = served(2)
    second.run(*SEEDS)
    assert second.wait(*SEEDS) == [0, 0]
    assert [store.find(key).resumed for key in SEEDS] == [1, 1]
    assert numbers(SEEDS) == {str(key): alone[str(key)] for key in SEEDS}


def test_a_campaign_in_lanes_killed_at_random_moments_ends_with_the_same_numbers(
    march: Path, alone: dict[str, dict]
) -> None:
    plan = "{preset: march, runs: [{dataset: digits, arch: lenet-300-100, method: [dense, gated, random], seeds: 0}]}"
    files.write_text(paths.campaign_file("march"), plan)
    words = ["--minutes", "5", "--lanes", "2"]
    for path, longest in ((paths.state(DENSE), 0.5), (paths.state(GATED), 2.0)):
        process = start_campaign(march, *words)
        wait_for(path)
        time.sleep(random.uniform(0, longest))
        kill_group(process)
    process = start_campaign(march, *words)
    _, told = process.communicate()
    assert process.returncode == 0, told
    runs = [DENSE, GATED, RANDOM]
    assert numbers(runs) == {str(key): alone[str(key)] for key in runs}
    assert torch.get_num_threads() == 1


# --- when something breaks ----------------------------------------------------------------------------------------

FAKE = """
import json, shutil, sys, time
made, root, behaviour = sys.argv[1:]
warm = []
for line in sys.stdin:
    told = json.loads(line)
    if told["do"] in ("open", "end"):
        continue
    status, words = 0, ""
    if told["do"] == "measure":
        words = json.dumps({"step": 1.0, "steps": dict.fromkeys(told["runs"], 1)})
    elif told["do"] == "warm_up":
        warm.append(told["run"])
    elif told["do"] == "check":
        assert warm, "nobody chose kernels before other lanes opened"
        words = json.dumps({"apart": None if "/gated/" in told["run"] else 0.5, "bound": 0.1})
    elif told["do"] == "sweep":
        words = json.dumps([[count, {1: 5.0, 2: 9.0, 4: 7.0}[count]] for count in told["counts"]])
    elif behaviour == "dies":
        sys.exit("out of memory")
    elif behaviour == "crashes":
        status, words = 1, "RuntimeError: capture"
    elif behaviour == "refuses":
        status, words = 2, "no such data"
    else:
        shutil.copytree(f"{made}/results/{told['run']}", f"{root}/results/{told['run']}")
    print(json.dumps({"id": told["id"], "status": status, "words": words}), flush=True)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the plan's runs."""
    folder = write_study(tmp_path_factory.mktemp("made"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        make(RUNS)
    return folder


@pytest.fixture
def campaign(march: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Campaign]:
    """Conducts a campaign whose lanes, like its processes, copy runs that were made before, or `behave` otherwise."""
    processes = march / "processes"

    def run(key: RunKey) -> list[str]:
        target = paths.run_folder(key)
        copied = f"mkdir -p {target.parent} && cp -r {made}/results/{key} {target}; echo {key} $0 >> {processes}"
        return ["sh", "-c", copied]

    def measure(keys: list[RunKey]) -> list[str]:
        told = json.dumps({"step": 1.0, "steps": dict.fromkeys(map(str, keys), 1)})
        return ["sh", "-c", f"echo '{told}'"]

    def conduct(behaviour: str = "", runs: list[RunKey] = RUNS, lanes_: Any = 2) -> Campaign:
        words = [sys.executable, "-c", FAKE, str(made), str(march), behaviour]
        monkeypatch.setattr(lanes, "command", lambda *_: words)
        limits = Limits(2, 100, lanes=lanes_)
        found = Campaign(config.load_preset("march"), runs, limits, lambda _: None, Commands(run, measure))
        found.conduct()
        found.in_processes = processes.read_text().splitlines() if processes.exists() else []
        return found

    return conduct


def made_by(campaign: Campaign) -> set[RunKey]:
    assert {outcome.how for outcome in campaign.outcomes} == {"made"}, [each.words for each in campaign.outcomes]
    return {outcome.key for outcome in campaign.outcomes}


def test_runs_are_made_in_lanes(campaign: Callable[..., Campaign]) -> None:
    found = campaign()
    assert made_by(found) == set(RUNS) and found.in_processes == [] and found.remarks == []
    assert "2 at a time in lanes and 1 beside them" in command.summary.of_campaign("march", found, [])


def test_lanes_that_die_leave_their_runs_to_processes(campaign: Callable[..., Campaign]) -> None:
    found = campaign("dies")
    assert made_by(found) == set(RUNS)
    assert sorted(line.split()[0] for line in found.in_processes) == sorted(map(str, RUNS))
    (remark,) = found.remarks
    assert "all runs have processes" in remark and "out of memory" in remark
    assert "out of memory" in command.summary.of_campaign("march", found, [])


def test_a_run_that_breaks_down_in_its_lane_is_made_in_a_process_eagerly(campaign: Callable[..., Campaign]) -> None:
    found = campaign("crashes", [DENSE])
    assert made_by(found) == {DENSE} and found.in_processes == [f"{DENSE} --eager"]
    assert "RuntimeError: capture" in found.remarks[0]


def test_a_run_that_its_user_has_to_put_right_is_not_tried_again(campaign: Callable[..., Campaign]) -> None:
    found = campaign("refuses", [DENSE])
    assert [(outcome.how, "no such data" in outcome.words) for outcome in found.outcomes] == [("failed", True)]
    assert found.in_processes == []


def test_what_a_lane_raises_is_told_and_the_next_run_is_made(
    served: Callable[[int], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = running.run
    monkeypatch.setattr(running, "run", lambda key, *rest, **how: 1 / 0 if key == GATED else run(key, *rest, **how))
    host = served(1)
    host.run(GATED, run_key("sss"), DENSE)
    assert host.wait(GATED, run_key("sss"), DENSE) == [lanes.CRASHED, 2, 0]
    assert "ZeroDivisionError" in host.answers[str(GATED)]["words"]
    assert "sss" in host.answers[str(run_key("sss"))]["words"]


def test_told_to_end_before_it_is_ready_is_no_failure() -> None:
    host = Lanes([sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(1)"])
    host.tell_to_end()
    errand = host.run(DENSE)
    host.process.wait()
    host._listener.join()
    assert errand.status() == 75
    host.close()


def test_to_close_lanes_that_died_hides_nothing() -> None:
    host = Lanes([sys.executable, "-c", "pass"])
    host.process.wait()
    errand = host.run(DENSE)
    host.close()
    assert errand.status() == lanes.LOST


def test_lanes_that_do_not_listen_are_ended() -> None:
    host = Lanes([sys.executable, "-c", "import time; time.sleep(600)"])
    errand = host.run(DENSE)
    assert errand.status() is None
    errand.kill()
    assert errand.status() == -9
    host.close()


# --- which runs, and how many at a time ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lr: 0.01}", "lr: 0.01, engine: compiled}"),
        ("{nu: 0.05,", "{cost: latency, nu: 0.05,"),
        ("{nu: 0.05,", "{target_latency: 0.5,"),
        ("{state_seconds: 0}", "{state_seconds: 0, processes: 2}"),
    ],
)
def test_a_run_that_needs_more_of_a_process_gets_one(root: Path, old: str, new: str) -> None:
    write_study(root)
    assert places.may_share_a_process(config.load_preset("march"), GATED)
    assert PRESET.count(old) == 1
    write_study(root, PRESET.replace(old, new))
    assert not places.may_share_a_process(config.load_preset("march"), GATED)


def test_experiments_and_images_in_files_have_processes(root: Path) -> None:
    text = "datasets: {imagenet: {archs: {imagenet-resnet-50: {}}, methods: {dense: {}, random-removal: {}}}}"
    write_study(
        root, f"{text[:-1]}, digits: {{archs: {{lenet5: {{}}}}, methods: {{dense: {{}}, random-removal: {{}}}}}}}}"
    )
    preset = config.load_preset("march")
    for dataset, arch, method in (
        ("imagenet", "imagenet-resnet-50", "dense"),
        ("digits", "lenet5", "random-removal"),
    ):
        assert not places.may_share_a_process(preset, RunKey("march", dataset, arch, method, "default", 0))


def test_the_fastest_number_is_chosen_and_untrusted_ways_have_processes(
    march: Path, campaign: Callable[..., Campaign]
) -> None:
    write_study(march, PRESET.replace("lr: 0.01}", "lr: 0.01, engine: graphs}"))
    found = campaign("refuses", [DENSE, GATED], (1, 2, 4))
    assert found.opening.count == 2
    words = "\n".join(found.opening.lines)
    assert "1: 5, 2: 9, 4: 7; chosen: 2" in words
    assert "dense: recorded steps DIFFER" in words and "gated: steps are not recorded" in words
    assert sorted(found.in_processes) == sorted([f"{DENSE} --eager", f"{GATED} sh"])


def test_where_no_number_can_be_tried_a_middle_one_is_taken(march: Path) -> None:
    preset = config.load_preset("march")
    host = Lanes(
        [
            sys.executable,
            "-c",
            'import json\nfor n in (0,): input(); print(\'{"id": 0, "status": 1, '
            '"words": "no memory"}\', flush=True); input()',
        ]
    )
    found = opening.open_lanes(host, Places(preset, None, 1), [DENSE], (1, 2, 4, 8, 12), lambda: True)
    assert found.count == 4 and "no memory" in found.lines[0]
    host.close()


@pytest.mark.parametrize("words", ["0", "-1", "many", "1.5"])
def test_a_number_of_lanes_that_is_none_is_refused(march: Path, words: str) -> None:
    with pytest.raises(LayerpruneError, match="--lanes: "):
        command.limits_of("march", 5, None, "cpu", False, words)


def test_on_a_cpu_no_more_lanes_are_tried_than_there_are_cores(march: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_cores", lambda: 5)
    assert command.limits_of("march", 5, None, "cpu", False, "auto").lanes == (1, 2, 4)
    assert command.limits_of("march", 5, 3, "cpu", False, "7") == Limits(3, 300, 1, "cpu", lanes=7, beside=3)
    assert command.limits_of("march", 5, None, "cpu", False).lanes is None


def test_a_sweep_measures_each_number_of_lanes(march: Path) -> None:
    settings = config.resolve(config.load_preset("march"), DENSE)
    found = sweep.sweep(settings, CPU, 1, (1, 2), 0.2, Notice())
    assert found.keys() == {1, 2} and min(found.values()) > 100
    ended = Notice()
    ended.given = True
    assert sweep.sweep(settings, CPU, 1, (1,), 600, ended) == {}


def test_what_breaks_a_lane_of_a_sweep_is_raised(march: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config.resolve(config.load_preset("march"), DENSE)
    monkeypatch.setattr(sweep.forecast, "trainer_on_noise", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep.sweep(settings, CPU, 1, (1, 2), 0.1, Notice())


# --- the self-test ------------------------------------------------------------------------------------------------


def settings_of(method: str, **training: Any) -> Any:
    raw = PRESET.replace("      random:", "      sss: {}\n      hard-concrete: {}\n      gal: {}\n      random:")
    write_study(paths.root(), raw)
    settings = config.resolve(config.load_preset("march"), run_key(method))
    return settings.model_copy(
        update={"training": settings.training.model_copy(update={"engine": "graphs"} | training)}
    )


@pytest.mark.parametrize("method", ["dense", "gated", "sss", "hard-concrete", "random"])
def test_the_self_test_finds_recorded_steps_equal(march: Path, method: str) -> None:
    verdict = selftest.check(settings_of(method), CPU)
    assert verdict.apart == 0 and verdict.agrees


def test_steps_that_are_not_recorded_are_told_apart(march: Path) -> None:
    for settings in (settings_of("gal"), settings_of("dense", average=0.9), settings_of("dense", engine="eager")):
        assert selftest.check(settings, CPU) == selftest.Verdict(None)


def test_the_self_test_sees_a_number_that_a_record_repeats(march: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def penalty(method: TrainingMethod, step: int) -> torch.Tensor:
        return 1e-3 * step * next(method.network.parameters()).sum()

    monkeypatch.setattr(TrainingMethod, "penalty", penalty)
    verdict = selftest.check(settings_of("dense"), CPU)
    assert verdict.apart > verdict.bound and not verdict.agrees


def test_a_run_may_be_made_eagerly_where_its_steps_are_not_to_be_trusted(
    march: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(march, PRESET.replace("lr: 0.01}", "lr: 0.01, engine: graphs}"))
    monkeypatch.setattr("layerprune.core.training.graphs.RecordedSteps.step", lambda *_: 1 / 0)
    running.run(DENSE, "cpu", 1, lambda *_: None, lambda _: None, records=False)
    with pytest.raises(ZeroDivisionError):
        running.run(run_key("dense", seed=1), "cpu", 1, lambda *_: None, lambda _: None)


def test_a_host_tests_sweeps_and_measures(march: Path, served: Callable[[int], Served]) -> None:
    write_study(march, PRESET.replace("lr: 0.01}", "lr: 0.01, engine: graphs}"))
    host = served(1)
    host.tell("warm_up", id="warm", run=str(GATED))
    host.tell("check", id=str(GATED), run=str(GATED))
    host.tell("sweep", id=str(DENSE), run=str(DENSE), counts=[1, 2], seconds=0.1)
    host.tell("measure", id=str(RANDOM), runs=[str(RANDOM), str(DENSE)])
    assert host.wait(GATED, DENSE, RANDOM) == [0, 0, 0]
    words = {key: host.answers[str(key)]["words"] for key in (GATED, DENSE, RANDOM)}
    assert json.loads(words[GATED])["apart"] == 0
    assert [count for count, speed in json.loads(words[DENSE]) if speed > 0] == [1, 2]
    assert measuring.parsed(words[RANDOM], 9.0).steps == {RANDOM: 50, DENSE: 300}


def test_kernels_are_chosen_for_each_network_before_lanes_open(march: Path) -> None:
    two = PRESET.replace("lr: 0.01}", "lr: 0.01, engine: graphs}").replace(
        "{lenet-300-100: {}}", "{lenet-300-100: {}, lenet5: {}}"
    )
    write_study(march, two)
    preset, asked = config.load_preset("march"), []

    class Told(Lanes):
        def ask(self, what: str, **told: Any) -> Any:
            asked.append((what, told.get("run")))
            return super().ask(what, **told)

    answer = 'json.dumps({"id": told["id"], "status": 0, "words": json.dumps({"apart": 0.0, "bound": 1.0})})'
    words = f"import json, sys\nfor line in sys.stdin:\n  told = json.loads(line)\n  print({answer}, flush=True)"
    host = Told([sys.executable, "-c", words.replace("print(", 'told["do"] in ("open", "end") or print(')])
    other = RunKey("march", "digits", "lenet5", "dense", "default", 0)
    opening.open_lanes(host, Places(preset, None, 1), [DENSE, GATED, other], 3, lambda: True)
    host.close()
    assert asked == [("warm_up", str(DENSE)), ("warm_up", str(other)), ("check", str(DENSE)), ("check", str(GATED))]


@pytest.mark.parametrize(("engine", "in_lane", "chosen"), [("graphs", 0, 1), ("graphs", 1, 0), ("eager", 0, 0)])
def test_a_run_of_its_own_process_chooses_kernels_and_a_lane_does_not(
    march: Path, monkeypatch: pytest.MonkeyPatch, engine: str, in_lane: int, chosen: int
) -> None:
    write_study(march, PRESET.replace("lr: 0.01}", f"lr: 0.01, engine: {engine}}}"))
    seen = []
    monkeypatch.setattr(running, "_trained", lambda *_: seen.append(torch.backends.cudnn.benchmark) or 1 / 0)
    lane = Lane(torch.device("cpu"), Notice(), SharedData(), 1) if in_lane else None
    with pytest.raises(ZeroDivisionError):
        running.run(DENSE, "cpu", 1, lambda *_: None, lambda _: None, lane=lane)
    assert seen == [bool(chosen)] and not torch.backends.cudnn.benchmark


# --- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_lanes_on_a_gpu_agree_with_runs_alone(march: Path) -> None:
    """Recorded at the same time, each in a stream of its own."""
    settings = settings_of("gated", duration="2ep")
    alone = selftest.check(settings, torch.device("cuda"))

    def check(_: int) -> selftest.Verdict:
        with devices.own_stream(torch.device("cuda", 0)):
            return selftest.check(settings, torch.device("cuda", 0))

    with ThreadPoolExecutor(4) as pool:
        assert all(verdict.agrees for verdict in [alone, *pool.map(check, range(8))])


@pytest.mark.gpu
def test_lanes_find_the_kernels_that_were_chosen_before(march: Path) -> None:
    """cuDNN tries kernels on a kind of convolution once, for all threads: recording beside others would not bear it."""
    device = torch.device("cuda", 0)
    with devices.fastest_convolutions():
        layer = torch.nn.Conv2d(24, 40, 3, device=device)
        image = torch.randn(7, 24, 19, 19, device=device)
        layer(image).sum().backward()

        def again(_: int) -> float:
            with devices.own_stream(device):
                began = time.perf_counter()
                layer(image).sum().item()
                return time.perf_counter() - began

        fresh = torch.nn.Conv2d(24, 56, 3, device=device)
        began = time.perf_counter()
        fresh(image).sum().item()
        tried = time.perf_counter() - began
        again(0)
        with ThreadPoolExecutor(1) as pool:
            assert min(pool.map(again, range(5))) < tried / 2


@pytest.mark.gpu
def test_each_thread_has_a_stream_of_its_own() -> None:
    def stream(_: int) -> int:
        with devices.own_stream(torch.device("cuda", 0)):
            time.sleep(0.1)
            return torch.cuda.current_stream().cuda_stream

    with ThreadPoolExecutor(12) as pool:
        assert len({0, *pool.map(stream, range(12))}) == 13


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sweep_on_a_gpu(march: Path, precision: str) -> None:
    found = sweep.sweep(settings_of("dense", precision=precision), torch.device("cuda", 0), 1, (1, 4), 0.5, Notice())
    assert found.keys() == {1, 4} and min(found.values()) > 0
