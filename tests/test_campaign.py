"""A campaign makes first things first, ends in time, and goes on where another one ended, however that ended."""

import json
import os
import random
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
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
from conftest import REPOSITORY

from layerprune.errors import LayerpruneError
from layerprune.suite import config, store
from layerprune.suite.campaign import adding, command, conduct, estimates, measuring, parts
from layerprune.suite.campaign.conduct import Campaign, Commands, Limits
from layerprune.suite.campaign.estimates import Estimates, Measured
from layerprune.suite.campaign.plan import runs_of
from layerprune.suite.campaign.schedule import Slot, choose, simulate
from layerprune.suite.campaign.todo import to_do, with_parents
from layerprune.system import files, paths
from layerprune.system.paths import RunKey


@pytest.fixture
def march(root: Path) -> Path:
    """A root with the preset and the plan `march`."""
    return write_study(root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the plan's runs, made without a campaign."""
    folder = write_study(tmp_path_factory.mktemp("made"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(folder))
        make(RUNS)
    return folder


@pytest.fixture
def reference(made: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """Numbers of the plan's runs, made without a campaign."""
    with monkeypatch.context() as patch:
        patch.setenv("LAYERPRUNE_ROOT", str(made))
        return numbers(RUNS)


# --- plans --------------------------------------------------------------------------------------------------------


def runs_in(text: str) -> list[RunKey]:
    files.write_text(paths.campaign_file("march"), text)
    plan = config.load_campaign("march")
    return runs_of(plan, config.load_preset(plan.preset), "march")


def test_a_selector_means_every_combination_seed_by_seed(march: Path) -> None:
    runs = runs_in(
        "{preset: march, runs: [{dataset: digits, arch: [lenet-300-100], method: [gated, dense], seeds: [3, 1]}]}"
    )
    assert runs == [run_key(method, seed=seed) for seed in (3, 1) for method in ("gated", "dense")]


def test_a_selector_without_seeds_has_those_of_the_preset(root: Path) -> None:
    write_study(root, PRESET.replace("dense: {}", "dense: {seeds: [4, 2]}"))
    runs = runs_in("{preset: march, runs: [{dataset: digits, arch: lenet-300-100, method: [dense, gated]}]}")
    assert runs == [run_key("dense", seed=4), run_key("dense", seed=2), GATED]


def test_variants_are_named_and_a_run_named_twice_is_made_once(march: Path) -> None:
    selectors = "{dataset: digits, arch: lenet-300-100, method: gated, variant: [nu-0.1, default]}"
    runs = runs_in(f"{{preset: march, runs: [{selectors}, {selectors}]}}")
    assert runs == [run_key("gated", "nu-0.1"), GATED]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("dataset: digits", "dataset: mnist", "runs.0.dataset: 'mnist' is not in preset march (has: digits)"),
        ("arch: lenet-300-100", "arch: vgg16", "runs.0.arch: 'vgg16' is not in preset march/digits"),
        ("method: magnitude", "method: [dense, sss]", "runs.0.method: 'sss' is not in preset march/digits/lenet"),
        ("method: magnitude", "method: gated, variant: x", "runs.0.variant: 'x' is not in preset march/digits/lenet"),
        ("method: magnitude", "method: []", "runs.0.method: Tuple should have at least 1 item"),
        ("method: magnitude", "method: gated, seeds: -1", "runs.0.seeds.0: "),
        ("method: magnitude", "method: gated, seeds: one", "runs.0.seeds.0: "),
        ("method: magnitude", "methods: gated", "runs.0.method: Field required"),
        ("method: magnitude", "method: gated, budget: 3", "runs.0.budget: unknown key"),
        ("preset: march", "preset: april", "april.yaml: no such preset"),
        ("preset: march", "presets: march", "preset: Field required"),
        ("runs:", "runs: []\nlast:", "runs: Tuple should have at least 1 item"),
        ("runs:", "runs:\nruns:", "not valid YAML: line 4"),
    ],
)
def test_a_mistake_in_a_plan_is_one_line_that_names_file_and_key(march: Path, old: str, new: str, error: str) -> None:
    text = paths.campaign_file("march").read_text()
    with pytest.raises(LayerpruneError) as raised:
        runs_in(text.replace(old, new, 1))
    line = str(raised.value)
    assert error in line and "\n" not in line and ".yaml" in line


def test_a_plan_that_is_not_there_is_told_with_those_that_are(march: Path) -> None:
    with pytest.raises(LayerpruneError, match=r"april.yaml: no such plan .*\(known: .*march, rehearsal\)"):
        config.load_campaign("april")


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "config" / "campaigns").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_plan_names_runs_of_its_preset_and_its_schema(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(REPOSITORY))
    plan = config.load_campaign(file.stem)
    assert runs_of(plan, config.load_preset(plan.preset), file.stem)
    told = file.read_text().splitlines()[0].partition("$schema=")[2]
    assert (file.parent / told).resolve() == REPOSITORY / "workflow" / "schemas" / "campaign.schema.json"


SHARES = [(None, 8), ("2", 1), ("2,5,7", 3), ("", 0), ("-1", 0), ("1,-1,2", 1), ("GPU-5a", 1), ("x," * 20, 8)]
"""CUDA_VISIBLE_DEVICES on a machine with eight GPUs, and how many of them it gives."""


@pytest.mark.parametrize(("given", "count"), SHARES)
def test_the_gpus_that_a_campaign_was_given_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, count: int
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nfor each in 1 2 3 4 5 6 7 8; do echo GPU $each; done\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert command._gpus("auto") == count
    assert command._gpus("cpu") == 0


# --- what is to be done ---------------------------------------------------------------------------------------------


def test_parents_come_before_their_children_even_where_the_plan_names_none(march: Path) -> None:
    assert to_do(config.load_preset("march"), [MAGNITUDE, RANDOM]) == [DENSE, MAGNITUDE, GATED, RANDOM]


def test_what_is_done_is_left_out_and_a_parent_without_weights_is_made_again(march: Path) -> None:
    preset = config.load_preset("march")
    make([MAGNITUDE])
    assert to_do(preset, [DENSE, MAGNITUDE, GATED]) == [GATED]
    paths.weights(DENSE).unlink()
    assert to_do(preset, [DENSE, MAGNITUDE, GATED]) == [GATED]
    assert to_do(preset, [MAGNITUDE, RANDOM]) == [DENSE, GATED, RANDOM]


@pytest.mark.parametrize("place", [paths.curves, paths.record])
def test_a_run_whose_files_were_altered_is_to_be_done(march: Path, place: Callable[[RunKey], Path]) -> None:
    make([DENSE])
    place(DENSE).write_text(place(DENSE).read_text() + " ")
    if place is paths.record:
        files.write_json(place(DENSE), files.read_json(place(DENSE)) | {"seed": 1})
    assert to_do(config.load_preset("march"), [DENSE]) == [DENSE]


# --- the schedule ---------------------------------------------------------------------------------------------------

NO_PARENTS = {key: set() for key in RUNS}
PARENTS = NO_PARENTS | {MAGNITUDE: {DENSE}, RANDOM: {DENSE, GATED}}
SECONDS = {DENSE: 50.0, MAGNITUDE: 10.0, GATED: 30.0, RANDOM: 5.0}


@pytest.mark.parametrize(
    ("left", "chosen"), [(50, DENSE), (49, GATED), (29, None)], ids=["fits", "next that fits", "none fits"]
)
def test_the_first_run_that_fits_and_waits_for_none_is_chosen(left: float, chosen: RunKey | None) -> None:
    assert choose(RUNS, PARENTS, set(RUNS), SECONDS.get, left) == chosen


def test_a_run_waits_for_what_it_starts_from(march: Path) -> None:
    assert choose([MAGNITUDE, RANDOM], PARENTS, {DENSE}, SECONDS.get, 100) is None
    assert choose([MAGNITUDE, RANDOM], PARENTS, {GATED}, SECONDS.get, 100) == MAGNITUDE


def test_a_run_without_a_forecast_is_chosen_to_be_measured() -> None:
    assert choose(RUNS, PARENTS, set(RUNS), {GATED: 30.0}.get, 40) == DENSE


def test_where_none_fits_the_first_is_begun_if_asked_for() -> None:
    assert choose(RUNS, PARENTS, set(RUNS), SECONDS.get, 3, fill=True) == DENSE
    assert choose([], PARENTS, set(), SECONDS.get, 3, fill=True) is None


def test_one_job_at_a_time_goes_through_the_list() -> None:
    slots = simulate(RUNS, PARENTS, SECONDS, jobs=1, budget=94)
    assert slots == [Slot(DENSE, 0, 50), Slot(MAGNITUDE, 50, 60), Slot(GATED, 60, 90)]


def test_two_jobs_share_the_runs_and_children_wait() -> None:
    slots = simulate(RUNS, PARENTS, SECONDS, jobs=2, budget=100)
    assert slots == [Slot(DENSE, 0, 50), Slot(GATED, 0, 30), Slot(MAGNITUDE, 50, 60), Slot(RANDOM, 50, 55)]


def test_the_last_run_is_only_begun_where_the_time_is_to_be_filled() -> None:
    assert simulate([DENSE, GATED], PARENTS, SECONDS, 1, 40) == [Slot(GATED, 0, 30)]
    assert simulate([DENSE, GATED], PARENTS, SECONDS, 1, 40, fill=True) == [Slot(GATED, 0, 30), Slot(DENSE, 30, 80)]


# --- forecasts --------------------------------------------------------------------------------------------------------


def test_methods_share_a_step_and_widths_and_precisions_do_not(root: Path) -> None:
    variants = "{nu-0.1: {training: {precision: bf16}}, wide: {training: {duration: 5ep}}}"
    write_study(root, PRESET.replace("{nu-0.1: {settings: {nu: 0.1}}}", variants))
    preset = config.load_preset("march")
    kinds = [estimates.kind_of(preset, key) for key in (DENSE, MAGNITUDE, run_key("gated", "wide"))]
    assert len(set(kinds)) == 1
    assert estimates.kind_of(preset, run_key("gated", "nu-0.1")) not in kinds


def measured(keys: list[RunKey], steps: int = 100) -> Estimates:
    """Every run takes 2 seconds to start, and 0.1 a step."""
    found = Estimates(config.load_preset("march"), keys)
    found.measured[found.kinds[DENSE]] = Measured(2.0, 0.1, dict.fromkeys(keys, steps))
    return found


def test_a_forecast_is_the_start_and_the_steps(march: Path) -> None:
    assert measured(RUNS).seconds(GATED) == pytest.approx(12)
    assert Estimates(config.load_preset("march"), RUNS).seconds(GATED) is None


def test_a_forecast_learns_from_the_runs_of_its_method_that_have_ended(march: Path) -> None:
    found = measured([*RUNS, *(run_key("gated", seed=seed) for seed in (1, 2, 3))])
    for seed, seconds in enumerate([6, 24, 8]):
        found.learn(run_key("gated", seed=seed), seconds)
    assert found.seconds(run_key("gated", seed=3)) == pytest.approx(8)


@pytest.mark.parametrize(("took", "forecast"), [(24, 24), (6, 12)])
def test_other_methods_only_lengthen_a_forecast(march: Path, took: float, forecast: float) -> None:
    found = measured(RUNS)
    found.learn(GATED, took)
    assert found.seconds(DENSE) == pytest.approx(forecast)


def test_what_measuring_takes_beside_its_steps_is_the_start_of_a_run() -> None:
    line = json.dumps({"step": 0.5, "steps": {str(DENSE): 7}})
    printed = f"a warning\n{line}\nanother"
    assert measuring.parsed(printed, 4 + measuring.STEPS * 0.5) == Measured(4, 0.5, {DENSE: 7})
    assert measuring.parsed("a warning", 4) is None


# --- on its way, with runs that are copied instead of made ------------------------------------------------------------


def shell(words: str) -> list[str]:
    return ["sh", "-c", words]


def copying(made: Path, instead: dict[RunKey, str] | None = None, steps: dict[RunKey, int] | None = None) -> Commands:
    """Runs that copy their results, or do what is said `instead`; every run has one step of a second."""

    def run(key: RunKey) -> list[str]:
        target = paths.run_folder(key)
        copied = f"mkdir -p {target.parent} && cp -r {made}/results/{key} {target}"
        return shell((instead or {}).get(key, copied))

    def measure(keys: list[RunKey]) -> list[str]:
        told = {"step": 1.0, "steps": {str(key): (steps or {}).get(key, 1) for key in keys}}
        return shell(f"echo '{json.dumps(told)}'")

    return Commands(run, measure)


def campaign_of(commands: Commands, seconds: float = 60, jobs: int = 1, **options: bool) -> Campaign:
    preset, said = config.load_preset("march"), []
    campaign = Campaign(preset, [MAGNITUDE, GATED, RANDOM], Limits(jobs, seconds, **options), said.append, commands)
    campaign.conduct()
    return campaign


def endings(campaign: Campaign) -> list[tuple[RunKey, str]]:
    return [(outcome.key, outcome.how) for outcome in campaign.outcomes]


def test_a_campaign_makes_everything_in_order_and_then_has_nothing_to_do(march: Path, made: Path) -> None:
    assert endings(campaign_of(copying(made))) == [(key, "made") for key in RUNS]
    assert endings(campaign_of(copying(made))) == []


@pytest.mark.parametrize("words", ["echo out of luck >&2; exit 2", "true", "kill -9 $$"])
def test_a_run_that_fails_is_told_of_not_tried_again_and_stops_only_its_children(
    march: Path, made: Path, words: str
) -> None:
    campaign = campaign_of(copying(made, {DENSE: words}))
    assert endings(campaign) == [(DENSE, "failed"), (GATED, "made")]
    assert campaign.unmade() == [DENSE, MAGNITUDE, RANDOM]
    text = command.summary.of_campaign("march", campaign, [])
    assert f"{DENSE} failed" in text and ("out of luck" in text) == ("luck" in words)
    assert f"* {MAGNITUDE}: about 1 s, waits for {DENSE}" in text


@pytest.mark.parametrize("words", ["echo no compiler; exit 1", "echo no compiler"])
def test_a_step_that_cannot_be_measured_fails_the_runs_that_need_it(march: Path, made: Path, words: str) -> None:
    commands = copying(made)
    commands.measure = lambda keys: shell(words)
    campaign = campaign_of(commands)
    assert endings(campaign) == [(key, "failed") for key in RUNS]
    assert all("no compiler" in outcome.words for outcome in campaign.outcomes)


def test_what_does_not_fit_is_not_begun_and_what_fits_behind_it_is(march: Path, made: Path) -> None:
    campaign = campaign_of(copying(made, steps={DENSE: 1000, MAGNITUDE: 1000}))
    assert endings(campaign) == [(GATED, "made")]
    assert campaign.elapsed < 20


def test_two_jobs_run_side_by_side(march: Path, made: Path) -> None:
    meet = "touch {own}; for i in $(seq 100); do [ -e {other} ] && exec {then}; sleep 0.05; done; exit 3"
    commands = copying(made)
    plain, places = commands.run, {DENSE: march / "a", GATED: march / "b"}

    def run(key: RunKey) -> list[str]:
        if key not in places:
            return plain(key)
        (other,) = [place for each, place in places.items() if each != key]
        return shell(meet.format(own=places[key], other=other, then=f"sh -c '{plain(key)[-1]}'"))

    commands.run = run
    assert set(endings(campaign_of(commands, jobs=2))) == {(key, "made") for key in RUNS}


@pytest.mark.parametrize("slow", ["lenet-300-100", "lenet5"])
def test_no_run_overtakes_one_whose_step_is_still_measured(root: Path, made: Path, slow: str) -> None:
    write_study(root, PRESET.replace("lenet-300-100: {}", "lenet-300-100: {}, lenet5: {}"))
    commands, planned = copying(made), [DENSE, replace(DENSE, arch="lenet5")]
    quick = commands.measure
    commands.measure = lambda keys: shell(f"{'sleep 1; ' if keys[0].arch == slow else ''}{quick(keys)[-1]}")
    commands.run = lambda key: shell("exit 3")
    said = []
    campaign = Campaign(config.load_preset("march"), planned, Limits(jobs=2, seconds=60), said.append, commands)
    campaign.conduct()
    assert [line.split(":")[0] for line in said if "begins" in line] == [str(key) for key in planned]
    assert [line for line in said if "measuring" in line] == said[:2]  # the place that waits measures meanwhile


def test_at_its_end_runs_are_told_and_those_that_do_not_listen_are_ended(
    march: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduct, "PATIENCE", 0.5)
    deaf, polite = "trap '' TERM; while :; do sleep 0.1; done", "trap 'exit 75' TERM; while :; do sleep 0.1; done"
    campaign = campaign_of(copying(made, {DENSE: deaf, GATED: polite}), seconds=conduct.STOP + 2, jobs=2)
    assert set(endings(campaign)) == {(DENSE, "stopped"), (GATED, "stopped")}
    assert [bool(outcome.words) for outcome in sorted(campaign.outcomes, key=lambda each: each.key)] == [True, False]
    assert not campaign.interrupted and 2 <= campaign.elapsed < 10


def test_a_budget_without_room_for_the_end_is_refused(march: Path) -> None:
    with pytest.raises(LayerpruneError, match=r"--minutes: 0.3 is too short"):
        command.conduct("march", Limits(1, 18.0), None, print)


def test_the_archive_holds_what_this_campaign_and_earlier_ones_made_and_no_altered_record(
    march: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_of(copying(made, {GATED: "exit 1"}))
    files.write_text(paths.record(MAGNITUDE), "{}")
    monkeypatch.setattr(conduct, "commands_of", lambda *_: copying(made, {MAGNITUDE: "exit 2"}))
    result = command.conduct("march", Limits(1, 60), march / "out", lambda _: None)
    with tarfile.open(result.archive) as packed:
        records = [name for name in packed.getnames() if name.endswith("record.json")]
    assert records == [f"results/{key}/record.json" for key in (GATED, RANDOM, DENSE)]
    assert [outcome.key for outcome in result.failed] == [MAGNITUDE] and "2 runs made" in result.summary


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(march: Path) -> None:
    (march / "out").write_text("a file")
    with pytest.raises(LayerpruneError, match="out"):
        command.conduct("march", Limits(1, 60), march / "out", print)
    assert not (march / "results").exists()


def test_campaigns_that_begin_at_once_do_not_take_the_folder_of_the_others_for_forbidden(tmp_path: Path) -> None:
    """Each looks whether it can write there, with a file that the others' looks take away."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: files.check_writable(tmp_path), range(400)))
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_would_run_and_runs_nothing(
    march: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "commands_of", lambda *_: copying(made, steps={GATED: 50}))
    text = command.rehearse("march", Limits(1, conduct.STOP + 30), lambda _: None)
    order = [line.split()[-1] for line in text.splitlines()[1:-1]]
    assert order == [str(key) for key in (DENSE, MAGNITUDE, GATED, RANDOM)]
    assert text.count("does not fit") == 2 and text.endswith(" of 4 runs, over after 2 s of 30 s")
    assert not (march / "results").exists() and not (march / "campaigns").exists()


# --- the real thing ---------------------------------------------------------------------------------------------------


def only_run(key: RunKey, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A campaign for one run, really made, whose time is over as soon as the run has a state."""
    commands = conduct.commands_of(config.load_preset("march"), Limits(1, 60, device="cpu"))
    commands.measure = copying(Path()).measure
    return Campaign(config.load_preset("march"), [key], Limits(1, 60, device="cpu"), print, commands)


def test_the_end_of_the_time_stores_the_state_and_the_next_campaign_goes_on(
    march: Path, monkeypatch: pytest.MonkeyPatch, reference: dict
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Campaign, "left", property(lambda _: 0.0 if paths.state(GATED).exists() else 100.0))
        first = only_run(GATED, patch)
        first.conduct()
    assert endings(first) == [(GATED, "stopped")] and paths.state(GATED).is_file()
    second = only_run(GATED, monkeypatch)
    second.conduct()
    assert endings(second) == [(GATED, "made")] and store.find(GATED).resumed == 1
    assert numbers([GATED]) == {str(GATED): reference[str(GATED)]}


def test_a_campaign_that_is_told_to_end_writes_its_archive_from_which_another_machine_goes_on(
    march: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, reference: dict
) -> None:
    process = start_campaign(march, "--minutes", "5", "--jobs", "1")
    wait_for(paths.state(DENSE))
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate()
    assert process.returncode == 75, told
    (archive,) = (march / "out").iterdir()
    assert printed.startswith("# Campaign march") and printed.strip().endswith(str(archive))
    with tarfile.open(archive) as packed:
        assert f"state/{DENSE}/state.pt" in packed.getnames() and "summary.md" in packed.getnames()
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(write_study(tmp_path_factory.mktemp("elsewhere"))))
    assert [verdict.taken for verdict in adding.add(archive)] == [True]
    make([DENSE])
    assert store.find(DENSE).resumed == 1 and numbers([DENSE]) == {str(DENSE): reference[str(DENSE)]}


def until_done(root: Path, kills: list[tuple[Path, float]], *words: str, plan: str = "march") -> None:
    """Campaigns that are killed so many seconds after a file is there, then one that is not."""
    for path, seconds in kills:
        process = start_campaign(root, *words, plan=plan)
        wait_for(path)
        time.sleep(seconds)
        kill_group(process)
    process = start_campaign(root, *words, plan=plan)
    _, told = process.communicate()
    assert process.returncode == 0, told


@pytest.mark.long
def test_a_campaign_killed_again_and_again_ends_with_the_same_numbers(march: Path, reference: dict) -> None:
    runs = [DENSE, MAGNITUDE]
    files.write_text(
        paths.campaign_file("march"),
        "{preset: march, runs: [{dataset: digits, arch: lenet-300-100, method: [dense, magnitude]}]}",
    )
    moments = [(march, 4.0), (paths.state(DENSE), 0.3), (paths.record(DENSE), 3.0)]
    kills = [(path, random.uniform(0, longest)) for path, longest in moments]
    until_done(march, kills, "--minutes", "5", "--jobs", "1")
    assert numbers(runs) == {str(key): reference[str(key)] for key in runs}


@pytest.mark.long
def test_a_rehearsal_of_three_minutes_killed_ten_times_ends_with_the_same_records(root: Path, tmp_path: Path) -> None:
    """Both make what they can in about three minutes, and then what is left."""
    calm = tmp_path / "calm"
    for folder in (root, calm):
        (folder / "config" / "campaigns").mkdir(parents=True, exist_ok=True)
        for name in ("quick.yaml", "campaigns/rehearsal.yaml"):
            files.write_text(folder / "config" / name, (REPOSITORY / "config" / name).read_text())
    until_done(calm, [], "--minutes", "10", plan="rehearsal")
    until_done(root, [(root, random.uniform(6, 30)) for _ in range(10)], "--minutes", "10", plan="rehearsal")
    records = {folder: sorted((folder / "results").rglob("record.json")) for folder in (root, calm)}
    names = [[str(path.relative_to(folder)) for path in found] for folder, found in records.items()]
    assert names[0] == names[1] and len(names[0]) == 21
    texts = [[path.read_text() for path in found] for found in records.values()]
    told = [[store.record.parsed(json.loads(text), "here").comparable() for text in found] for found in texts]
    assert told[0] == told[1]
    print([json.loads(text)["resumed"] for text in texts[0]], file=sys.stderr)


# --- parts of a plan ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("name", ["quick", "laptop"])
def test_parts_are_all_of_a_plan_and_none_needs_a_run_of_another(name: str, count: int) -> None:
    preset = config.load_preset(name)
    planned = config.plan(preset, name)[:150]
    shares = [parts.runs_in(parts.Part(number, count), preset, planned) for number in range(1, count + 1)]
    assert sorted(map(str, planned)) == sorted(str(key) for share in shares for key in share)
    assert all(share == [key for key in planned if key in set(share)] for share in shares)
    needed = [set(with_parents(preset, share)) for share in shares]
    assert sum(map(len, needed)) == len(set.union(*needed))
    largest = max(map(len, parts.groups(preset, planned)))
    assert max(map(len, shares)) - min(map(len, shares)) <= largest


def test_the_one_part_is_the_plan_and_several_have_names() -> None:
    assert parts.parsed(None) == parts.parsed("1/1") == parts.Part() and parts.Part().label("march") == "march"
    assert parts.parsed("3/64") == parts.Part(3, 64) and parts.Part(3, 64).label("march") == "march-part3of64"


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "/4", "-1/4", "1/4/4", "one/4", "1/0", " 1/4", "1/9999999"])
def test_what_is_no_part_is_one_line(text: str) -> None:
    with pytest.raises(LayerpruneError, match=r"--part: .*is not a part such as 1/4"):
        parts.parsed(text)


@pytest.mark.long
def test_two_campaigns_make_their_parts_in_one_folder_at_the_same_time(march: Path) -> None:
    plan = "{preset: march, runs: [{dataset: digits, arch: lenet-300-100, method: gated, seeds: [0, 1]}]}"
    files.write_text(paths.campaign_file("march"), plan)
    campaigns = [start_campaign(march, "--minutes", "5", "--jobs", "1", "--part", f"{each}/2") for each in (1, 2)]
    said = [process.communicate(timeout=240)[0] for process in campaigns]
    assert [process.returncode for process in campaigns] == [0, 0], said
    assert all("1 runs made" in text for text in said)
    assert sorted(path.name.rpartition("-")[0] for path in (march / "out").iterdir()) == [
        "march-part1of2",
        "march-part2of2",
    ]
    assert all(store.find(run_key("gated", seed=seed)) is not None for seed in (0, 1))
