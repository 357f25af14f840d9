"""The preset, its runs and their files, for all rules. The logic lives in layerprune.suite.config and layerprune.system.paths."""

import ast
import os
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

# The checkout, whichever of its two Snakefiles was started.
HOUSE = Path(workflow.current_basedir).parents[1]
# Its code is what runs, in this process and in the jobs, installed or not.
SOURCE = str(HOUSE / "src")
sys.path.insert(0, SOURCE)


def put_first(variable, folder):
    os.environ[variable] = os.pathsep.join(filter(None, [folder, os.environ.get(variable)]))


put_first("PYTHONPATH", SOURCE)
put_first("PATH", str(Path(sys.executable).parent))

from layerprune.suite import config as settings
from layerprune.suite import current
from layerprune.system import paths, processes
from layerprune.core.data import catalog
from layerprune.errors import LayerpruneError, one_line
from layerprune.system.paths import RunKey

ENVIRONMENT = HOUSE / "environment.yml"
IMAGE = Path(os.environ.get("LAYERPRUNE_IMAGE") or HOUSE / "layerprune.sif")


def stop(line):
    """End with one line; a WorkflowError here would print the workflow's own lines below it."""
    sys.exit(f"Error: {one_line(line)}")


def image():
    """With --sdm apptainer there must be an image; without it nobody looks, and its path may hold what it likes."""
    methods = getattr(workflow.deployment_settings, "deployment_method", ())
    if not any(method.name == "APPTAINER" for method in methods):
        return None
    if not IMAGE.is_file():
        stop(f"{IMAGE}: no such image; docs/container.md says how to make it, LAYERPRUNE_IMAGE names another")
    if any(letter.isspace() for letter in str(IMAGE)):
        stop(f"{IMAGE}: Snakemake takes no image with a space in its path; name another with LAYERPRUNE_IMAGE")
    return str(IMAGE)


# With --sdm apptainer every job runs in it.
container: image()


BOOKS = Path(".snakemake")


def check_books():
    """Snakemake keeps its books in .snakemake, and would end in a traceback where it cannot write them."""
    alone = "snakemake works in a folder of one's own alone"
    if not os.access(BOOKS if BOOKS.is_dir() else ".", os.W_OK):
        stop(f"{Path.cwd()}: cannot be written: {alone}")
    if any(map(is_closed, kept_in_books())):
        stop(f"{BOOKS.absolute()}: has files of another user: {alone}")


def kept_in_books():
    """What Snakemake reads and writes again: a hundred thousand runs leave half a million files."""
    yield from (BOOKS / name for name in ("metadata", "incomplete", "locks", "iocache", "log"))
    for name in ("metadata", "incomplete", "locks", "iocache"):
        for folder, _, files in os.walk(BOOKS / name):
            yield from (os.path.join(folder, file) for file in files)


def is_closed(path):
    """Asked twice: what is absent is not closed, and another snakemake may be at work."""
    return not os.access(path, os.R_OK | os.W_OK) and os.path.exists(path)


def read_preset():
    """Name and content of the chosen preset; a mistake is one line, not a traceback."""
    unknown = sorted(set(config) - {"preset"})
    if unknown:
        stop(f"--config {unknown[0]}: unknown key (known: preset)")
    name = str(config.get("preset", "quick"))
    try:
        return name, settings.load_preset(name)
    except (LayerpruneError, OSError) as error:
        stop(str(error))


def datasets_with_runs():
    """Data sets of which nothing is planned have neither tables nor figures."""
    try:
        return settings.datasets_with_runs(PRESET, PRESET_NAME, list(PRESET.datasets))
    except LayerpruneError as error:
        stop(str(error))


check_books()
processes.name_user()
PRESET_NAME, PRESET = read_preset()
DATASETS = datasets_with_runs()


def wants_trainings():
    """-F and -R train ask for the runs themselves, whatever the store has; known once rules are read."""
    asked = workflow.dag_settings
    return asked is not None and (asked.forceall or "train" in asked.forcerun)


@cache
def stored(key):
    """Is the run in the committed store, as the preset asks for it? Then there is nothing to train."""
    try:
        return not wants_trainings() and current.is_stored(PRESET, key)
    except (LayerpruneError, OSError) as error:
        stop(str(error))


@cache
def planned(dataset):
    return settings.plan(PRESET, PRESET_NAME, dataset)


def present(dataset):
    """Can the dataset be had? If not, its runs are left out but for those in the store, and that is said once, loudly."""
    source = PRESET.datasets[dataset].source
    available, why = catalog.is_available(dataset, settings.data_root(PRESET), PRESET.data.download, source)
    missing = [] if available else [key for key in planned(dataset) if not stored(key)]
    if missing:
        what = (
            "every run" if len(missing) == len(planned(dataset)) else f"{len(missing)} of {len(planned(dataset))} runs"
        )
        print(f"LEFT OUT: {what} on {dataset}: {why}", file=sys.stderr)
    return not missing


AVAILABLE = [dataset for dataset in DATASETS if present(dataset)]


NETWORKS = [(dataset, arch) for dataset in DATASETS for arch in PRESET.datasets[dataset].archs]


def network_target(dataset, arch):
    """Name of the target of one network: cifar10 and resnet-20 give cifar10_resnet20."""
    return f"{dataset}_{arch.replace('-', '').replace('.', '')}"


# --- files ----------------------------------------------------------------------------------------------------

ANY_RUN = RunKey(PRESET_NAME, "{dataset}", "{arch}", "{method}", "{variant}", "{seed}")


def log_file(name, suffix="log"):
    return paths.root() / "logs" / f"{name}.{suffix}"


include: "stale.smk"


def run_of(wildcards):
    names = wildcards.dataset, wildcards.arch, wildcards.method, wildcards.variant
    return RunKey(PRESET_NAME, *names, int(wildcards.seed))


def files_of_runs(dataset, *kinds, arch=None):
    """What tables and figures are made of: one or more files (paths.record, paths.curves) of each run of a dataset, or of
    one network on it, that has to be made, none where its data is absent; and the store, where it has any."""
    asked = [key for key in planned(dataset) if arch in (None, key.arch)]
    own = [kind(key) for key in asked for kind in kinds if not stored(key)]
    store_files = [paths.stored_records(PRESET_NAME, dataset)] if any(map(stored, asked)) else []
    return (own if dataset in AVAILABLE else []) + store_files


def evidence():
    """Records of other presets by which claims are judged, too: as they are in the store."""
    stores = [paths.stored_records(*each) for each in settings.evidence(PRESET)]
    return [path for path in stores if path.is_file()]


def runs_of(datasets):
    """Files of the runs themselves. A target names them beside what is made of them: Snakemake would call a table up to
    date although runs that it was made of are gone."""
    return [path for dataset in datasets for path in files_of_runs(dataset, paths.record, paths.curves)]


def tables_of(datasets):
    return [paths.table(PRESET_NAME, dataset, suffix) for suffix in ("csv", "html") for dataset in datasets]


def claims_of_preset():
    """The claims ledger; none where a study elsewhere has no rules for it."""
    there = paths.claim_rules().is_file()
    return [paths.claims(PRESET_NAME, suffix) for suffix in ("csv", "md", "html") if there]


def pages():
    """What has a page beside it, without suffixes, as words of the shell."""
    made = [path.with_suffix("") for path in [*tables_of(DATASETS), *claims_of_preset()] if path.suffix == ".html"]
    return shlex.join(map(str, made))


def figures_of(datasets):
    return [figure_folder(dataset) for dataset in datasets]


def figure_folder(dataset):
    return paths.figure(PRESET_NAME, dataset, "any", "svg").parent


def compact_folder(dataset):
    return paths.compact_table(PRESET_NAME, dataset, "any", "csv").parent


def outcome_of(dataset):
    """Tables and figures of one dataset, the target named after it."""
    if dataset not in DATASETS:
        stop(f"{dataset} is not in the preset {PRESET_NAME} ({', '.join(DATASETS)}); choose one: --config preset=...")
    return [*runs_of([dataset]), *tables_of([dataset]), *figures_of([dataset])]


# --- what rules ask for a run or a dataset --------------------------------------------------------------------


def gpus_of_a_run(wildcards):
    """How many GPUs a run will have to itself; runs that share one wait for their place on it by themselves.

    Asked of the system: torch would know better, but takes seconds to import. NVIDIA's driver brings nvidia-smi.
    """
    if PRESET.resources.runs_per_gpu > 1:
        return 0
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    there = not hidden and shutil.which("nvidia-smi") is not None
    asked = PRESET.resources.device.startswith("cuda") or (PRESET.resources.device == "auto" and there)
    return PRESET.processes(wildcards.dataset) if asked else 0


def starts_from(wildcards):
    """What this run starts from and has to be made first: records, and weights of the runs whose weights it needs; in
    storage all that a run is checked by, as a job finds there what it asks for alone."""
    key = run_of(wildcards)
    repeat_if_stale(key)
    by_weights = settings.weight_prerequisites(PRESET, key)
    by_record = [parent for parent in settings.prerequisites(PRESET, key) if parent not in by_weights]
    kinds = (paths.record, paths.arch, paths.curves) if IN_STORAGE else (paths.record,)
    weights = [kind(each) for each in by_weights if not has_weights(each) for kind in (*kinds, paths.weights)]
    return weights + [kind(each) for each in by_record if not stored(each) for kind in kinds]


def has_weights(key):
    return stored(key) and paths.stored_weights(key).is_file()


def memory_to_read(*datasets):
    """MB for what reads all records of these datasets at once: 99,800 took 2,200 (docs/scaling.md)."""
    return 1000 + sum(len(planned(dataset)) for dataset in datasets) // 40


def settings_of(wildcards):
    """What decides the run's result: a change here, and nothing else of the preset, repeats the run."""
    return settings.resolve(PRESET, run_of(wildcards)).science()


def tolerate_gaps(wildcards):
    return "" if wildcards.dataset in AVAILABLE else "--partial"


def captions():
    """Figure -> CAPTION of its drawing module, read without importing it: that takes seconds at every start."""
    modules = Path(SOURCE, "layerprune", "analysis", "figures").glob("[a-z]*.py")
    return {file.stem.replace("_", "-"): constant_of(file, "CAPTION") for file in sorted(modules)}


def constant_of(file, name):
    statements = ast.parse(file.read_text(encoding="utf-8")).body
    assigned = [each for each in statements if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == name]
    return ast.literal_eval(assigned[0].value)


def headline():
    """The front page's table as reStructuredText, for the report's start page; empty if no network has two seeds."""
    path = paths.headline(PRESET_NAME)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except OSError as error:
        stop(f"{path}: {error.strerror}")
    if len(lines) < 2:
        return ""
    return "\n".join([".. csv-table::", "   :header-rows: 1", "", *(f"   {line}" for line in lines)])


# The captions of the report are templates, and `config` is what they can see that is not shown beside each figure.
config["captions"] = captions()
config["headline"] = headline()


wildcard_constraints:
    dataset="[a-z0-9][a-z0-9-]*",
    arch="[a-z0-9][a-z0-9.-]*",
    method="[a-z0-9][a-z0-9-]*",
    variant="[a-z0-9][a-z0-9.-]*",
    seed=r"\d+",
