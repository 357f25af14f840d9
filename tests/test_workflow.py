"""What the workflow runs, what it leaves alone, and how it fails: with snakemake itself on a tiny study."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import REPOSITORY, Outcome, Study, copy_presets, run_module
from PIL import Image

from layerprune.core.data import catalog
from layerprune.suite import config, packing, record
from layerprune.system import paths
from layerprune.system.paths import RunKey

pytestmark = pytest.mark.slow

RUNS = "results/tiny/digits/lenet-300-100"


def planned_jobs(outcome: Outcome, rule: str = "train") -> int:
    """How many jobs of a rule a dry run announces."""
    assert outcome.code == 0, outcome.stderr
    counts = re.findall(rf"^{rule} +(\d+)$", outcome.stderr + outcome.stdout, re.MULTILINE)
    return int(counts[0]) if counts else 0


def planned_runs(outcome: Outcome) -> set[str]:
    """Methods whose runs a dry run announces, where it is not told to be quiet about rules."""
    text = outcome.stderr + outcome.stdout
    return set(re.findall(r"wildcards: .*method=([a-z-]+)", text))


def one_line(outcome: Outcome) -> str:
    """The only line of complaint, apart from snakemake's words about its profile."""
    lines = [line for line in outcome.stderr.splitlines() if line and "profile" not in line]
    kept = [line for line in lines if not line.startswith(("Assuming", "Building", "Images of"))]
    assert len(kept) == 1, outcome.stderr
    return kept[0]


@pytest.fixture
def empty(tmp_path: Path) -> Study:
    """A folder with presets and nothing else."""
    copy_presets(tmp_path)
    return Study(tmp_path)


@pytest.fixture
def copy(study: Study, tmp_path: Path) -> Study:
    return study.copy(tmp_path)


# --- what is run --------------------------------------------------------------------------------------------


def test_a_preset_plans_exactly_its_runs(empty: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = empty.snakemake("--dry-run", preset="quick")
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(empty.folder))
    assert planned_jobs(outcome) == len(config.plan(config.load_preset("quick"), "quick"))


def test_every_run_leaves_its_four_files(study: Study) -> None:
    for method in ("dense", "gated", "random", "magnitude"):
        folder = study.folder / RUNS / method / "default" / "seed0"
        assert {file.name for file in folder.iterdir()} == {
            "record.json",
            "curves.csv",
            "arch.json",
            "weights.safetensors",
        }


def test_a_second_call_has_nothing_to_do(study: Study) -> None:
    outcome = study.snakemake("--dry-run")
    assert "Nothing to be done" in outcome.stderr + outcome.stdout


def test_a_data_set_of_which_nothing_is_planned_is_left_out(copy: Study) -> None:
    copy.edit_preset("  digits:\n", "  mnist: {archs: {}, methods: {dense: {}}}\n  digits:\n")
    assert planned_jobs(copy.snakemake("--dry-run")) == planned_jobs(copy.snakemake("--dry-run", "tables")) == 0


def test_a_preset_that_plans_nothing_ends_in_one_line(empty: Study) -> None:
    (empty.folder / "config" / "tiny.yaml").write_text("datasets: {digits: {archs: {}, methods: {dense: {}}}}\n")
    outcome = empty.snakemake("--dry-run")
    assert outcome.code == 1 and "datasets.digits: no run is planned" in one_line(outcome)


@pytest.mark.parametrize("target", [[], ["tables"], ["figures"], ["digits"]])
def test_a_run_that_is_gone_is_made_again_although_its_tables_are_there(copy: Study, target: list[str]) -> None:
    shutil.rmtree(copy.folder / RUNS / "random")
    outcome = copy.snakemake(*target, "--dry-run")
    assert (planned_jobs(outcome), planned_jobs(outcome, "tables_of_dataset")) == (1, 1)


def test_resources_and_descriptions_repeat_nothing(copy: Study) -> None:
    copy.edit_preset("seeds: [0]", "seeds: [0]\nresources: {threads: 2, device: cpu}")
    copy.edit_preset("description: the", "description: perhaps the")
    assert planned_jobs(copy.snakemake("--dry-run")) == 0


@pytest.mark.parametrize(("runs_per_gpu", "counted"), [(1, True), (2, False)])
def test_a_run_that_has_a_gpu_to_itself_is_counted(empty: Study, runs_per_gpu: int, counted: bool) -> None:
    empty.edit_preset("seeds: [0]", f"seeds: [0]\nresources: {{device: cuda, runs_per_gpu: {runs_per_gpu}}}")
    outcome = empty.snakemake("--dry-run", "--quiet", "host")
    assert planned_jobs(outcome) == 4
    assert ("gpu=1" in outcome.stderr + outcome.stdout) == counted


def test_what_reads_all_records_is_given_memory_for_them(empty: Study) -> None:
    empty.edit_preset("seeds: [0]", f"seeds: {list(range(100))}")
    outcome = empty.snakemake("--dry-run", "--quiet", "host")
    assert outcome.code == 0, outcome.stderr
    blocks = (outcome.stderr + outcome.stdout).split("\nrule ")
    asked = {block.partition(":")[0]: re.findall(r"mem_mb=(\d+)", block) for block in blocks[1:]}
    assert asked["tables_of_dataset"] == asked["ledger"] == asked["figures_of_dataset"] == ["1010"]


def test_a_run_that_asks_for_several_devices_counts_them(empty: Study) -> None:
    empty.edit_preset("seeds: [0]", "seeds: [0]\nresources: {device: cuda, processes: 2}")
    outcome = empty.snakemake("--dry-run", "--quiet", "host", "--resources", "gpu=4")
    assert planned_jobs(outcome) == 4
    assert "gpu=2" in outcome.stderr + outcome.stdout


@pytest.mark.long
def test_torchrun_starts_a_run_that_several_processes_share(empty: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    empty.edit_preset("seeds: [0]", "seeds: [0]\nresources: {processes: 2, device: cpu}")
    record_file = f"{RUNS}/dense/default/seed0/record.json"
    outcome = empty.snakemake(record_file)
    assert outcome.code == 0, outcome.stderr
    assert json.loads((empty.folder / record_file).read_text())["provenance"]["processes"] == 2


def test_a_changed_setting_repeats_its_runs_and_what_starts_from_them(copy: Study) -> None:
    copy.edit_preset("nu: 0.02", "nu: 0.03")
    outcome = copy.snakemake("--dry-run", "--quiet", "host")
    assert planned_jobs(outcome) == 2
    assert planned_runs(outcome) == {"gated", "random"}


def rewrite(study: Study, method: str, change: Callable[[dict], object]) -> None:
    path = study.folder / RUNS / method / "default" / "seed0" / "record.json"
    raw = json.loads(path.read_text())
    change(raw["provenance"])
    path.write_text(json.dumps(raw | {"checksum": record.checksum_of(raw)}))


def test_a_run_that_the_code_has_left_behind_is_made_again(copy: Study) -> None:
    """Of versions Snakemake's own books know nothing."""
    rewrite(copy, "gated", lambda source: source["versions"].update(method=99))
    outcome = copy.snakemake("--dry-run", "--quiet", "host")
    assert planned_runs(outcome) == {"gated", "random"}, outcome.stderr
    assert re.search(rf"^Again: {RUNS[8:]}/gated/default/seed0: stale-code: versions", outcome.stderr, re.MULTILINE)
    assert planned_jobs(copy.snakemake("--dry-run", f"{RUNS}/dense/default/seed0/record.json")) == 0


def test_a_run_that_snakemake_did_not_make_is_made_again_under_other_settings(copy: Study) -> None:
    shutil.rmtree(copy.folder / ".snakemake")
    copy.edit_preset("nu: 0.02", "nu: 0.03")
    outcome = copy.snakemake("--dry-run", "--quiet", "host")
    assert planned_runs(outcome) == {"gated", "random"}, outcome.stderr
    assert "gated/default/seed0: stale-config: settings differ: settings.nu (0.02 -> 0.03)" in outcome.stderr


def test_progress_names_the_run_that_ended(copy: Study) -> None:
    shutil.rmtree(copy.folder / RUNS / "magnitude")
    outcome = copy.snakemake()
    assert outcome.code == 0, outcome.stderr
    ended = re.findall(r"^Finished (.*)$", outcome.stderr, re.MULTILINE)
    assert ended[0] == "digits/lenet-300-100/magnitude/default/seed0"
    assert {"tables_of_dataset digits", "all"} <= set(ended) and "jobid" not in outcome.stderr


def test_a_new_seed_runs_only_the_new_seed(copy: Study) -> None:
    copy.edit_preset("seeds: [0]", "seeds: [0, 1]")
    assert planned_jobs(copy.snakemake("--dry-run")) == 4


def test_a_dataset_is_a_target_and_force_repeats_all_of_it(study: Study) -> None:
    assert planned_jobs(study.snakemake("--dry-run", "digits", "-F")) == 4


def test_a_network_on_a_dataset_is_a_target_that_runs_its_runs_and_draws(copy: Study) -> None:
    shutil.rmtree(copy.folder / RUNS / "magnitude")
    assert planned_jobs(copy.snakemake("--dry-run", "digits_lenet300100")) == 1
    table = copy.folder / "results" / "tiny" / "tables" / "digits.md"
    table.unlink()
    copy.snakemake("digits_lenet300100")
    assert (copy.folder / RUNS / "magnitude").is_dir() and "magnitude" in table.read_text()


# --- results that are shipped in the store --------------------------------------------------------------------


@pytest.fixture
def shipped(copy: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """As in a clone: the store, tables and figures; no folders of runs, no memory of jobs."""
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(copy.folder))
    list(packing.pack("tiny", ["digits"], weights=False))
    shutil.rmtree(copy.folder / RUNS)
    shutil.rmtree(copy.folder / ".snakemake")
    return copy


def test_shipped_results_are_drawn_and_not_trained_again(shipped: Study) -> None:
    table = shipped.folder / "results" / "tiny" / "tables" / "digits.md"
    before = table.read_text()
    assert planned_jobs(shipped.snakemake("--dry-run")) == 0
    outcome = shipped.snakemake()
    assert outcome.code == 0, outcome.stderr
    assert table.read_text() == before and not (shipped.folder / RUNS).exists()
    assert "Nothing to be done" in (again := shipped.snakemake("--dry-run")).stderr + again.stdout


@pytest.mark.parametrize(
    ("method", "settings", "planned"),
    [
        ("random", "keep: matched", {"random", "gated", "dense"}),  # gated's record, dense's weights
        ("magnitude", "keep: 1", {"magnitude", "dense"}),
    ],
)
def test_a_seed_of_one_method_needs_only_what_it_starts_from(
    shipped: Study, method: str, settings: str, planned: set[str]
) -> None:
    shipped.edit_preset(
        f"{method}: {{settings: {{{settings}}}}}", f"{method}: {{settings: {{{settings}}}, seeds: [0, 1]}}"
    )
    outcome = shipped.snakemake("--dry-run", "--quiet", "host")
    assert planned_runs(outcome) == planned and planned_jobs(outcome) == len(planned)


@pytest.mark.long
def test_a_variant_of_a_seed_that_is_shipped_makes_only_the_weights_that_it_needs(shipped: Study) -> None:
    old, new = (
        "magnitude: {settings: {keep: 1}}",
        "magnitude: {settings: {keep: 1}, variants: {all: {settings: {keep: 2}}}}",
    )
    shipped.edit_preset(old, new)
    assert planned_runs(shipped.snakemake("--dry-run", "--quiet", "host")) == {"magnitude", "dense"}
    outcome = shipped.snakemake()
    assert outcome.code == 0, outcome.stderr
    made = {path.parent.parent.parent.name for path in (shipped.folder / RUNS).glob("*/*/*/record.json")}
    assert made == {"magnitude", "dense"}  # gated, random and magnitude's default stay as they were shipped
    assert planned_jobs(shipped.snakemake("--dry-run")) == 0


@pytest.mark.parametrize(
    ("judge", "planned"),
    [(None, {"magnitude"}), (lambda key: lambda weights: 0.5, {"magnitude", "dense"})],
    ids=["single", "half"],
)
def test_shipped_weights_of_a_parent_spare_its_training_unless_they_were_rounded(
    copy: Study, monkeypatch: pytest.MonkeyPatch, judge: packing.Judge | None, planned: set[str]
) -> None:
    monkeypatch.setenv("LAYERPRUNE_ROOT", str(copy.folder))
    list(packing.pack("tiny", ["digits"], True, judge))
    shutil.rmtree(copy.folder / RUNS)
    copy.edit_preset("magnitude: {settings: {keep: 1}}", "magnitude: {settings: {keep: 2}}")
    outcome = copy.snakemake("--dry-run", "--quiet", "host")
    assert planned_runs(outcome) == planned


def test_the_laptop_study_of_this_repository_is_shipped_whole(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "config", "results/laptop"], cwd=REPOSITORY, capture_output=True, text=True
    )
    if not tracked.stdout:
        pytest.skip(f"{REPOSITORY} is not a checkout: whether its laptop study is whole goes unchecked")
    for name in tracked.stdout.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    outcome = Study(tmp_path).snakemake("--dry-run", preset="laptop")
    assert outcome.code == 0 and "LEFT OUT" not in outcome.stderr, outcome.stderr
    assert planned_jobs(outcome) == planned_jobs(outcome, "stage") == 0


# --- what trains nothing ------------------------------------------------------------------------------------


def test_partial_shows_the_gap_of_a_missing_run_and_trains_nothing(copy: Study) -> None:
    shutil.rmtree(copy.folder / RUNS / "magnitude")
    outcome = copy.snakemake("partial")
    assert outcome.code == 0, outcome.stderr
    table = (copy.folder / "results/tiny/tables/digits.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith("| magnitude")]
    assert "not run" in row
    assert not (copy.folder / RUNS / "magnitude").exists()


def test_a_checkout_s_path_may_have_a_space(copy: Study) -> None:
    house = copy.folder / "my house"
    house.symlink_to(REPOSITORY)
    page = "results/tiny/tables/digits.html"
    (copy.folder / page).unlink()
    place = ["--snakefile", house / "Snakefile", "--cores", "2", "--directory", copy.folder]
    outcome = run_module("snakemake", "partial", page, *place, "--config", "preset=tiny", cwd=copy.folder)
    assert outcome.code == 0, outcome.stderr + outcome.stdout
    assert (copy.folder / page).is_file()


def test_verify_tells_a_complete_study_from_one_with_a_gap(copy: Study) -> None:
    complete = copy.snakemake("verify")
    assert complete.code == 0, complete.stdout
    shutil.rmtree(copy.folder / RUNS / "magnitude")
    gap = copy.snakemake("verify")
    assert gap.code != 0
    assert "magnitude/default/seed0" in gap.stdout
    assert not (copy.folder / RUNS / "magnitude").exists()


def test_an_absent_dataset_is_left_out_loudly_and_its_table_says_not_run(
    empty: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAYERPRUNE_DATA", raising=False)
    empty.edit_preset("datasets:\n", "datasets:\n  mnist: {archs: {lenet5: {}}, methods: {dense: {}}}\n")
    outcome = empty.snakemake("results/tiny/tables/mnist.csv")
    assert outcome.code == 0, outcome.stderr
    assert len([line for line in outcome.stderr.splitlines() if "LEFT OUT" in line and "mnist" in line]) == 1
    assert "not run" in (empty.folder / "results/tiny/tables/mnist.md").read_text()
    assert not (empty.folder / "results/tiny/mnist/lenet5").exists()


# --- mistakes -----------------------------------------------------------------------------------------------


IMAGENET = """
training: {duration: 1ep, batch_size: 20, lr: 0.01}
finetune: {duration: 1ep}
datasets:
  imagenet:
    source: imagenet-tiny40
    training: {augment: crop-flip}
    archs: {imagenet-resnet-18: {model: {width: 2, removable: shape-preserving}}}
    methods:
      dense: {}
      gated: {settings: {nu: 10.0, warmup: 1it, check_interval: 2, checks: 1, theta_lr: 1.0}}
      random-removal: {settings: {lists: 5}}
"""


def test_imagenet_is_a_target_from_staging_to_the_last_figure(empty: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up images in the folders of the excerpt, which its forty classes tell from the whole."""
    monkeypatch.delenv("LAYERPRUNE_DATA", raising=False)
    write_classes(empty.folder / "data" / "imagenet-tiny40", classes=40, train=3, val=1, side=64)
    (empty.folder / "config" / "tiny.yaml").write_text(IMAGENET)
    outcome = empty.snakemake("imagenet")
    assert outcome.code == 0, outcome.stderr
    records = sorted(path.parts[-4] for path in (empty.folder / "results").rglob("record.json"))
    assert records == ["dense", "gated", "random-removal"]
    table = (empty.folder / "results/tiny/tables/imagenet.md").read_text()
    assert "(images: imagenet-tiny40)" in table and "| top-5 (%) |" in table
    assert (empty.folder / "figures/tiny/imagenet/random-removal.svg").is_file()
    assert empty.snakemake("verify").code == 0


def write_classes(folder: Path, classes: int, train: int, val: int, side: int) -> None:
    """A class-folder tree of JPEGs of noise."""
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            home = folder / part / f"n{label:02}"
            home.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(home / f"{number}.JPEG")


def test_an_unknown_preset_is_one_line(empty: Study) -> None:
    outcome = empty.snakemake("--dry-run", preset="quik")
    assert outcome.code != 0
    assert "config/quik.yaml: no such preset" in one_line(outcome)


def test_an_unknown_key_of_a_preset_is_one_line(empty: Study) -> None:
    empty.edit_preset("seeds: [0]", "sedes: [0]")
    outcome = empty.snakemake("--dry-run")
    assert outcome.code != 0
    assert one_line(outcome).endswith("config/tiny.yaml: sedes: unknown key")


def test_an_unknown_key_of_the_command_line_is_one_line(empty: Study) -> None:
    words = ["--snakefile", REPOSITORY / "Snakefile", "--dry-run", "--config", "presett=tiny"]
    outcome = run_module("snakemake", *words, cwd=empty.folder)
    assert outcome.code != 0
    assert "presett: unknown key" in one_line(outcome)


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("default", ["--config", "preset=tiny", "mnist"]),
        ("default", ["-C", "preset"]),
        ("default", ["-C", "preset=#"]),
        ("slurm", ["--config", "preset=tiny", "mnist"]),
    ],
)
def test_a_word_after_config_that_sets_nothing_is_one_line(empty: Study, profile: str, words: list[str]) -> None:
    place = ["--snakefile", REPOSITORY / "Snakefile", "--workflow-profile", REPOSITORY / "profiles" / profile]
    outcome = run_module("snakemake", *place, "--dry-run", *words, cwd=empty.folder)
    assert outcome.code == 1
    assert one_line(outcome).startswith(f"Error: --config: '{words[-1]}' is not NAME=VALUE; targets go first: ")


@pytest.mark.parametrize("words", [["--config", "preset=tiny", "--", "digits"], ["--config=preset=tiny", "digits"]])
def test_a_target_that_snakemake_can_tell_from_config_may_come_last(empty: Study, words: list[str]) -> None:
    dry_run = ["--snakefile", REPOSITORY / "Snakefile", "--dry-run"]
    assert planned_jobs(run_module("snakemake", *dry_run, *words, cwd=empty.folder)) > 0


@pytest.mark.parametrize(
    ("target", "told"),
    [("digit", "did you mean digits?"), ("tabels", "did you mean tables?"), ("xyz", "docs/cheat-sheet.md lists them")],
)
def test_a_mistyped_target_is_told_the_nearest_one(empty: Study, target: str, told: str) -> None:
    outcome = empty.snakemake(target)
    assert outcome.code == 1
    assert one_line(outcome) == f"Error: {target}: no such target; {told}"


@pytest.mark.parametrize(
    ("download", "stored", "told"),
    [("true", False, "downloaded to"), ("false", False, "left out"), ("false", True, "(mnist)")],
)
def test_a_dry_run_says_where_images_come_from(
    empty: Study, monkeypatch: pytest.MonkeyPatch, download: str, stored: bool, told: str
) -> None:
    monkeypatch.delenv("LAYERPRUNE_DATA", raising=False)
    empty.edit_preset("datasets:\n", "datasets:\n  mnist: {archs: {lenet5: {}}, methods: {dense: {}}}\n")
    empty.edit_preset("download: false", f"download: {download}")
    if stored:  # dry runs look for names alone
        folder = empty.folder / "data" / "mnist"
        folder.mkdir(parents=True)
        for name in catalog.find("mnist").files.values():
            (folder / name).touch()
    outcome = empty.snakemake("--dry-run")
    assert outcome.code == 0, outcome.stderr
    assert re.search(rf"^Images of mnist: .*{re.escape(told)}", outcome.stderr, re.MULTILINE), outcome.stderr
    assert "Images of digits: embedded in the package" in outcome.stderr


def test_a_dataset_outside_the_preset_is_one_line(empty: Study) -> None:
    outcome = empty.snakemake("--dry-run", "mnist")
    assert outcome.code != 0
    assert "mnist is not in the preset tiny" in one_line(outcome)


# --- death --------------------------------------------------------------------------------------------------


def wait_for(condition, what: str, seconds: float = 120):
    """Poll until `condition()` is true, and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


def training_process(driver: subprocess.Popen) -> psutil.Process | None:
    """The run that a snakemake process has started."""
    for child in psutil.Process(driver.pid).children(recursive=True):
        words = child.cmdline()
        if "layerprune" in words and "run" in words and "python" in Path(words[0]).name:
            return child
    return None


@pytest.mark.long
def test_a_killed_run_is_tried_again_and_goes_on_from_its_state(empty: Study) -> None:
    empty.edit_preset("duration: 2ep, batch_size: 128", "duration: 300ep, batch_size: 64")
    empty.edit_preset("lr: 0.05", "lr: 0.01")
    empty.edit_preset("seeds: [0]", "seeds: [0]\nresources: {state_seconds: 0.5}")
    key = RunKey("tiny", "digits", "lenet-300-100", "dense", "default", 0)
    record, state = empty.folder / paths.record(key), empty.folder / paths.state(key)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        str(paths.record(key)),
    ]
    options = ["--directory", str(empty.folder), "--cores", "1", "--config", "preset=tiny"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(
        [*command, *options], cwd=empty.folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(state.exists, "the first saved state")
    training_process(driver).send_signal(signal.SIGKILL)
    _, said = driver.communicate(timeout=200)
    assert driver.returncode == 0, said
    assert "Trying to restart" in said
    assert json.loads(record.read_text())["resumed"] == 1


# --- the workflow's own form --------------------------------------------------------------------------------


def test_snakemakes_linter_has_no_complaint() -> None:
    command = [sys.executable, "-m", "snakemake", "--lint"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_workflow_is_formatted() -> None:
    command = [str(Path(sys.executable).parent / "snakefmt"), "--check", "Snakefile", "workflow"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_snakefile_is_short() -> None:
    assert len((REPOSITORY / "Snakefile").read_text().splitlines()) <= 60


def test_the_schemas_are_those_of_the_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "workflow" / "scripts"))
    import write_schemas

    for name, model in write_schemas.SCHEMAS.items():
        stored = (write_schemas.FOLDER / f"{name}.schema.json").read_text()
        assert stored == write_schemas.schema_text(model), "run: python workflow/scripts/write_schemas.py"


@pytest.mark.parametrize("file", sorted((REPOSITORY / "config").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_preset_is_valid_and_can_be_resolved(file: Path, root: Path) -> None:
    preset = config.load_preset(file.stem)
    for key in config.plan(preset, file.stem):
        assert config.resolve(preset, key).seed == key.seed
