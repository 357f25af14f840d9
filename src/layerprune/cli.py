"""The command line: one run, staging, tables, figures and verification, without Snakemake."""

import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from layerprune.errors import LayerpruneError, one_line
from layerprune.suite import config
from layerprune.system import cpu, files, paths, processes
from layerprune.system.paths import RunKey

MOST_THREADS = 4096
"""More than any machine has cores."""

app = typer.Typer(
    help="Concurrent training and layer pruning of deep networks: runs, tables, figures, verification.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunDataset = Annotated[str, typer.Option("--dataset", help="Data set: digits, mnist, cifar10, cifar100 or imagenet.")]
Arch = Annotated[str, typer.Option("--arch", help="Architecture as in the preset: lenet5, resnet-20, vgg16, ...")]
Method = Annotated[str, typer.Option("--method", help="Method: dense, gated, sss, ... (see `layerprune methods`).")]
Variant = Annotated[str, typer.Option("--variant", help="Named variant of the method, as in the preset.")]
PresetName = Annotated[str, typer.Option("--preset", help="Preset: the name of a file config/<preset>.yaml.")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Only this data set of the preset; default: all.")]
Partial = Annotated[bool, typer.Option("--partial", help="Use the runs that exist; missing ones show as gaps.")]


@app.command()
def run(
    dataset: RunDataset,
    arch: Arch,
    method: Method,
    preset: PresetName = "quick",
    variant: Variant = "default",
    seed: Annotated[
        int, typer.Option(help="Seed of initialisation, data order, augmentation and gates; 0 or more.")
    ] = 0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; default: the preset's.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of this run, shared by its processes; default: the preset's.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Trained weights (torchvision's for ImageNet's ResNets, akamaster's for CIFAR's, or this package's) "
            "that the dense network takes instead of being trained.",
        ),
    ] = None,
    eager: Annotated[
        bool, typer.Option("--eager", help="Compute steps eagerly where the preset records them (engine: graphs).")
    ] = False,
) -> None:
    """Make one run of a preset: train, prune, measure, and write its record. An interrupted run resumes.

    If the preset shares a run between several processes, torchrun starts them.
    """
    if seed < 0:
        raise LayerpruneError(f"--seed: must be 0 or more, not {seed}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise LayerpruneError(f"--threads: must be 1 or more, at most {MOST_THREADS}, not {threads}")
    settings = config.load_preset(preset)
    if dataset in settings.datasets and settings.processes(dataset) > 1 and processes.torchrun_place() is None:
        raise typer.Exit(processes.share(settings.processes(dataset), sys.argv[1:]))
    cpu.choose(settings.resources.cpu_kernels)  # before torch is imported
    from layerprune.suite import run as running
    from layerprune.system.progress import Progress

    key = RunKey(preset, dataset, arch, method, variant, seed)
    with Progress(str(key)) as progress:
        record = running.run(key, device, threads, progress.report, progress.say, weights, records=not eager)
    place = processes.torchrun_place()
    if place is not None and place.rank > 0:
        return
    accuracy = (
        f"{100 * record.test_accuracy:.2f} % test accuracy" if record.test_accuracy is not None else "no accuracy"
    )
    kept = f"{sum(record.keep)} of {record.sections_total} sections left"
    print(
        f"{paths.record(key)}: {record.status}, {accuracy}, {kept}, {record.macs / record.macs_dense:.2f} of the MACs"
    )


@app.command()
def stage(
    dataset: Annotated[str, typer.Argument(help="Data set: digits, mnist, cifar10, cifar100 or imagenet.")],
    preset: PresetName = "quick",
) -> None:
    """Download a data set if it is missing, verify it, and write its manifest (checksums, sizes, split)."""
    from layerprune.core import data
    from layerprune.core.data.loading import Reading

    settings = config.load_preset(preset)
    block = settings.datasets.get(dataset)
    reading = Reading(source=block.source if block else None, bad_images=settings.data.bad_images)
    manifest = data.stage(dataset, config.data_root(settings), settings.data.download, reading)
    path = paths.data_manifest(preset, dataset)
    files.write_json(path, manifest)
    print(f"{path}: {manifest['source']}, {manifest['sizes']['train']} training images, checksums agree")


@app.command()
def plan(
    preset: PresetName = "quick",
    dataset: DatasetName = None,
    claim: Annotated[
        str | None, typer.Option(metavar="C1|C2|...", help="Only the runs that decide this claim of the paper.")
    ] = None,
) -> None:
    """List the runs of a preset, base runs first."""
    asked = _datasets(preset, dataset)
    for key in config.plan(config.load_preset(preset), preset, dataset) if claim is None else _runs_of(claim, preset):
        if key.dataset in asked:
            print(key)


def _runs_of(claim: str, preset: str) -> list[RunKey]:
    from layerprune.analysis.claims import needs

    runs = needs.runs_of(claim, preset)
    if not runs:
        raise LayerpruneError(f"--claim: no run of preset {preset} decides {claim}")
    return runs


@app.command()
def methods() -> None:
    """List the methods with their settings and defaults."""
    from layerprune.core.methods import listing

    print(listing())


@app.command()
def show(run: Annotated[Path, typer.Argument(help="Folder of a run, results/<preset>/.../seed<k>.")]) -> None:
    """Print the pruned network of a run, section by section, with multiply-adds and parameters."""
    from layerprune.suite.folder import print_run

    print_run(run)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, with its weights.safetensors.")],
    form: Annotated[
        Literal["pt2", "onnx", "state-dict"] | None,
        typer.Option(
            "--format",
            help="pt2: a program of torch.export, which needs no class; onnx: for onnxruntime and others, needs "
            "layerprune[onnx]; state-dict: weights only. Default: as --output's name says, else pt2.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write; default: network.pt2, .onnx or .pt in the folder. A name in .pt2, .onnx, .pt or "
            ".safetensors (weights only) says the format."
        ),
    ] = None,
) -> None:
    """Export the pruned network of a run to a file."""
    from layerprune.suite import folder

    print(folder.export(run, form, output, _remark))


@app.command()
def evaluate(
    dataset: RunDataset,
    arch: Arch,
    method: Method,
    preset: PresetName = "laptop",
    variant: Variant = "default",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU if available.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="CPU threads.")] = 1,
) -> None:
    """Evaluate a run's network on the test set again and compare the accuracy with the record. Trains nothing.

    Weights come from the run's folder or from the store. Exits with status 1 if the accuracies differ.
    """
    cpu.choose(config.load_preset(preset).resources.cpu_kernels)
    from layerprune.suite.evaluate import evaluate_again
    from layerprune.system.devices import choose_device

    found = evaluate_again(
        RunKey(preset, dataset, arch, method, variant, seed), choose_device(device), threads, _remark
    )
    print(f"{RunKey(preset, dataset, arch, method, variant, seed)}: {found}")
    if not found.agrees:
        raise typer.Exit(1)


results = typer.Typer(help="The committed store of results: records.jsonl and its files.", no_args_is_help=True)
app.add_typer(results, name="results")


@results.command()
def pack(
    preset: PresetName = "laptop",
    dataset: DatasetName = None,
    weights: Annotated[
        bool,
        typer.Option(
            "--weights",
            help="Also store weights of the headline networks: dense and gated, first seed; in half precision where "
            "that leaves the test accuracy as it is.",
        ),
    ] = False,
) -> None:
    """Add a preset's run folders to its store: records.jsonl, curves, arrays."""
    from layerprune.suite import packing

    for line in packing.pack(preset, _datasets(preset, dataset), weights, _measure):
        print(line)


def _measure(key: RunKey) -> Callable[[Path], float]:
    cpu.choose(config.load_preset(key.preset).resources.cpu_kernels)
    from layerprune.suite.evaluate import measure  # here, as packing alone needs no torch

    return measure(key)


@results.command()
def unpack(preset: PresetName = "laptop", dataset: DatasetName = None) -> None:
    """Write the stored runs as folders; folders with a record are left alone."""
    from layerprune.suite import store

    for each in _datasets(preset, dataset):
        done = sum(store.unpack(key) for key in store.keys(preset, each))
        print(f"{paths.results(preset) / each}: {done} runs unpacked")


@results.command()
def add(
    archive: Annotated[Path, typer.Argument(help="An archive written by `layerprune campaign`.")],
) -> None:
    """Merge the runs of a campaign's archive into the run folders; existing runs are never replaced.

    Exits with status 1 if a run was not added because it is stale or in conflict with an existing one.
    """
    from layerprune.suite.campaign import adding

    verdicts = []
    for verdict in adding.add(archive):
        print(verdict.line)
        verdicts.append(verdict)
    refused = sum(verdict.refused for verdict in verdicts)
    print(f"{archive}: {sum(verdict.taken for verdict in verdicts)} added, {refused} refused, of {len(verdicts)}")
    if refused:
        raise typer.Exit(1)


@app.command()
def tables(preset: PresetName = "quick", dataset: DatasetName = None, partial: Partial = False) -> None:
    """Make runs.csv, summary.csv and the tables (CSV, Markdown, LaTeX) from the records."""
    from layerprune.analysis.build import build_tables

    for each in _planned_datasets(preset, dataset):
        _print_paths(build_tables(preset, each, partial=partial))
        _tell_not_current(preset, each)


@app.command()
def figures(
    preset: PresetName = "quick",
    dataset: DatasetName = None,
    partial: Partial = False,
    name: Annotated[list[str] | None, typer.Option(help="Only this figure; may be given several times.")] = None,
) -> None:
    """Draw the figures: SVG, the plotted values as CSV, and PNG for those that README.md or docs/ links as PNG."""
    from layerprune.analysis.build import build_figures

    for each in _planned_datasets(preset, dataset):
        _print_paths(build_figures(preset, each, names=name, partial=partial))
        _tell_not_current(preset, each)


@app.command()
def claims(preset: PresetName = "quick") -> None:
    """Judge the paper's claims by the existing records and the rules of config/claims, and write the headline table.

    Writes claims.csv, claims.md and headline.csv.
    """
    from layerprune.analysis import headline
    from layerprune.analysis.claims import ledger

    _print_paths([*ledger.write(preset), *headline.write(preset)])


@app.command()
def latency(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|FILE]...", help="Run folders, .pt2 or .onnx files; default: all runs of the preset."
        ),
    ] = None,
    preset: PresetName = "quick",
    dataset: DatasetName = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=2**24,
            help="Batch size; may be given several times; default: 1 and 128, for single networks 1, 32 and 256.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, max=10**6, help="Measurements of each network; quartiles are kept.")
    ] = 30,
    threads: Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU if available.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or both, separated by a comma.")] = "fp32",
    engine: Annotated[
        str,
        typer.Option(
            help="eager, compiled (torch.compile), graphed (CUDA graphs), onnxruntime; commas between several."
        ),
    ] = "eager",
) -> None:
    """Measure the inference time of every run's pruned network. The machine must be idle.

    Writes results/<preset>/<dataset>/latency.csv, which the figure latency-vs-macs shows. Single networks are measured
    interleaved; their times go to latency.csv in the run's folder or FILE.latency.csv. A line names what could not be
    measured.
    """
    from layerprune.library.latency import engines, measuring
    from layerprune.suite.latency import measure_networks, measure_runs, told
    from layerprune.system import devices

    conditions = measuring.Conditions(
        devices.choose_device(device),
        tuple(dict.fromkeys(batch or (measuring.SINGLE_BATCHES if models else measuring.STUDY_BATCHES))),
        repeats,
        threads,
        measuring.chosen("--engine", engine, engines.ENGINES),
        measuring.chosen("--precision", precision, engines.PRECISIONS),
    )
    runs_per_gpu = 1 if models else config.load_preset(preset).resources.runs_per_gpu
    with devices.whole_machine(conditions.device, runs_per_gpu, _remark):
        if models:
            tables = measure_networks(models, conditions, _remark)
            print(told(tables))
            _print_paths(tables)
        else:
            _print_paths(measure_runs(preset, _datasets(preset, dataset), conditions, _remark))


@app.command()
def forecast(
    preset: PresetName = "paper",
    dataset: DatasetName = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU if available.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="CPU threads; default: the preset's.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Training steps to measure for each network.")] = 10,
    devices: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=10**6, help="Time with that many devices; may be given several times; default: 8 and 64."
        ),
    ] = None,
) -> None:
    """Estimate how long a preset would take on this machine, from a few measured training steps."""
    from layerprune.suite import forecast as predicting
    from layerprune.system.devices import choose_device

    settings = config.load_preset(preset)
    rows = [
        row
        for each in _datasets(preset, dataset)
        for row in predicting.forecast(
            settings, preset, each, choose_device(device), threads or settings.resources.threads, steps
        )
    ]
    print(predicting.report(rows))
    hours = predicting.hours_of_runs(settings, preset, rows)
    for count in devices or (8, 64):
        longest = predicting.duration(predicting.hours_on(count, settings, hours))
        print(f"at most {longest} on {count} such devices, a run on each")


@app.command()
def campaign(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="What to run: the name of config/campaigns/<plan>.yaml.")],
    minutes: Annotated[float, typer.Option(help="Total time; the last 20 seconds are for the archive.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="Concurrent runs; default: cores / threads of a run.")
    ] = None,
    lanes: Annotated[
        str | None,
        typer.Option(
            metavar="K|auto",
            help="Concurrent runs as threads of one process, whose work overlaps on a GPU; auto: the fastest number; "
            "--jobs then counts the runs beside them that need processes, by default 1.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; default: the preset's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the archive; default: campaigns/.")] = None,
    fill: Annotated[
        bool,
        typer.Option(
            "--fill", help="If nothing else fits, start a run that will not finish in time; it resumes later."
        ),
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only the I-th of N parts, for N campaigns at the same time, in one folder or in several.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure training steps and print what would run and when; run nothing.")
    ] = False,
) -> None:
    """Make as many runs of a plan as fit into a given time, most important first, and pack them into one archive.

    Finished runs are not repeated, interrupted runs resume. Exits with status 1 if a run failed, and with 75 after
    SIGTERM or Ctrl-C: the archive is still written, and repeating the command resumes.
    """
    from layerprune.suite.campaign import command, parts

    limits, chosen = command.limits_of(plan, minutes, jobs, device, fill, lanes), parts.parsed(part)
    if dry_run:
        print(command.rehearse(plan, limits, _remark, chosen))
        return
    result = command.conduct(plan, limits, out, _remark, chosen)
    print(f"{result.summary}\n{result.archive}")
    if result.interrupted:
        raise typer.Exit(processes.REQUEUE)
    if result.failed:
        raise typer.Exit(1)


@app.command()
def verify(preset: PresetName = "quick", dataset: DatasetName = None) -> None:
    """Report planned runs that are missing, stale, failed or out of range. Exits with status 1 if there are any."""
    from layerprune.analysis.verify import report
    from layerprune.analysis.verify import verify as find

    findings = find(preset, dataset)
    print(report(findings))
    if any(finding.is_error for finding in findings):
        raise typer.Exit(1)


@app.command("check-reproduction")
def check_reproduction(
    preset: PresetName = "laptop",
    dataset: DatasetName = None,
    note: Annotated[
        bool, typer.Option("--note", help="Also keep the rows in results/PRESET/reproduced.csv, for docs/reproduce.md.")
    ] = False,
) -> None:
    """Compare fresh runs, in folders, with the committed records: equal bit for bit, within tolerance, or off.

    Exits with status 1 if a run is off.
    """
    from layerprune.analysis import reproduction

    _datasets(preset, dataset)
    rows = reproduction.check(preset, dataset)
    print(reproduction.report(rows))
    if note:
        reproduction.note(preset, rows)
        print(paths.reproduced(preset))
    if any(row.verdict == "off" for row in rows):
        raise typer.Exit(1)


@app.command()
def pages(
    preset: Annotated[str | None, typer.Option(help="Only what is generated from this preset; default: all.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with status 1 if a page is out of date.")
    ] = False,
) -> None:
    """Renew the generated tables, verdicts and figures of README.md and docs/."""
    from layerprune.analysis.pages import is_current, update

    if not check:
        _print_paths([page for page in paths.pages() if update(page, preset)])
        return
    stale = [page for page in paths.pages() if not is_current(page, preset)]
    for page in stale:
        _remark(f"{page}: generated parts are out of date; run: layerprune pages")
    if stale:
        raise typer.Exit(1)


def _datasets(preset: str, dataset: str | None) -> list[str]:
    known = list(config.load_preset(preset).datasets)
    if dataset is not None and dataset not in known:
        raise LayerpruneError(f"--dataset: '{dataset}' is not in preset {preset} (has: {', '.join(known)})")
    return [dataset] if dataset else known


def _planned_datasets(preset: str, dataset: str | None) -> list[str]:
    """The data sets asked for, without those on which the preset plans no run."""
    return config.datasets_with_runs(config.load_preset(preset), preset, _datasets(preset, dataset))


def _tell_not_current(preset: str, dataset: str) -> None:
    from layerprune.analysis.verify import not_current

    found = not_current(preset, dataset)
    if found:
        _remark(
            f"{dataset}: {len(found)} of these records, as that of {found[0]}, are of other code, settings or data "
            f"than today's: layerprune verify --preset {preset} --dataset {dataset} says which"
        )


def _remark(text: str) -> None:
    print(one_line(text), file=sys.stderr, flush=True)


def _print_paths(written: list[Path]) -> None:
    for path in written:
        print(path)


INTERRUPTED = 130
"""Exit status after Ctrl-C; typer gives it too."""
UsageError = typer.BadParameter.__base__
"""A mistake in the words of the command line. Typer brings a click of its own, so it is not always click's."""


def main() -> None:
    """Run the command line; a mistake that people can mend is one line on stderr and exit status 2.

    After SIGTERM a run's exit status is system.processes.REQUEUE: its state is written and it can be taken up again.
    """
    processes.name_user()
    # Torch warns of a damaged file before it refuses it; the refusal alone is for people.
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    if hasattr(sys.stdout, "reconfigure"):  # a file's name may have bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        print(end="", flush=True)  # nothing where there is no stdout
    except LayerpruneError as error:
        status = _complain(str(error))
    except UsageError as error:
        status = _complain(error.format_message())
    except processes.Preempted as told:
        print(f"layerprune: {told}", file=sys.stderr)
        status = processes.REQUEUE
    except (BrokenPipeError, SystemExit):  # the reader, such as `head`, has gone: typer makes a SystemExit of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # keeps the interpreter from flushing to it
        status = 0
    except OSError as error:  # a folder that may not be entered, a disk that fails
        status = _complain(f"{error.filename or 'a file'}: {files.reason_of(error)}")
    except MemoryError:
        status = _complain("not enough memory")
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:  # a mistake of the code, or a file so odd that nobody thought of it
        status = _unexpected(error)
    if status == INTERRUPTED:
        print("layerprune: interrupted; repeat the command to resume from the saved state", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str) -> int:
    who = f"process {rank}: " if (rank := _rank()) > 0 else ""
    print(f"layerprune: {who}error: {one_line(' '.join(message.split()))}", file=sys.stderr)
    return 2


def _rank() -> int:
    """Of this process among those that torchrun started; 0 for one alone, and where its place may be the complaint."""
    try:
        place = processes.torchrun_place()
    except LayerpruneError:
        return 0
    return 0 if place is None else place.rank


UNEXPECTED = 70
"""Exit status of an error that nobody expected: EX_SOFTWARE of sysexits.h."""


def _unexpected(error: Exception) -> int:
    """One line on stderr; where it happened is kept in a file."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="layerprune-", suffix=".txt", delete=False) as notes:
            traceback.print_exception(error, file=notes)
        where = f"its traceback is in {notes.name}"
    except OSError:
        where = f"in {traceback.extract_tb(error.__traceback__)[-1]}"
    _complain(f"unexpected {type(error).__name__}: {error}; {where}")
    return UNEXPECTED
