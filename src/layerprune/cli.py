"""The command line: one run, staging, tables, figures and verification, without Snakemake."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from layerprune.errors import LayerpruneError
from layerprune.suite import config
from layerprune.system import cpu, files, paths, processes
from layerprune.system.paths import RunKey

app = typer.Typer(
    help="Concurrent training and layer pruning of deep networks: runs, tables, figures, verification.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunDataset = Annotated[str, typer.Option("--dataset", help="Data set: digits, mnist, cifar10, cifar100 or imagenet.")]
Arch = Annotated[str, typer.Option("--arch", help="Architecture as in the preset: lenet5, resnet-20, vgg16, ...")]
Method = Annotated[str, typer.Option("--method", help="Method: dense, gated, sss, ... (see `layerprune methods`).")]
Variant = Annotated[str, typer.Option("--variant", help="Named variant of the method, as in the preset.")]
PresetName = Annotated[str, typer.Option("--preset", help="Study to work on: the name of a file config/<preset>.yaml.")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Only this data set of the preset; absent: all.")]
Partial = Annotated[bool, typer.Option("--partial", help="Work with the runs that exist; missing ones show as gaps.")]


@app.command()
def run(
    dataset: RunDataset,
    arch: Arch,
    method: Method,
    preset: PresetName = "quick",
    variant: Variant = "default",
    seed: Annotated[int, typer.Option(help="Seed of initialisation, order, augmentation and gates; 0 or more.")] = 0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; absent: the preset's.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of this run, shared by its processes; absent: the preset's.")
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
    """Make one run of a preset: train, prune, measure, and write its record. Takes up saved state after a kill.

    Where the preset lets several processes share a run, torchrun starts them.
    """
    if seed < 0:
        raise LayerpruneError(f"--seed: must be 0 or more, not {seed}")
    if threads is not None and threads < 1:
        raise LayerpruneError(f"--threads: must be 1 or more, not {threads}")
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
    """Fetch a data set where it is missing, verify it, and write its manifest (checksums, sizes, split)."""
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
def plan(preset: PresetName = "quick", dataset: DatasetName = None) -> None:
    """List the runs of a preset, base runs first."""
    for key in config.plan(config.load_preset(preset), preset, dataset):
        print(key)


@app.command()
def methods() -> None:
    """List the methods with their settings and defaults."""
    from layerprune.core.methods import listing

    print(listing())


@app.command()
def show(run: Annotated[Path, typer.Argument(help="Folder of a run, results/<preset>/.../seed<k>.")]) -> None:
    """Print the network that is left of a run, section by section, with MACs and parameters."""
    from layerprune.suite.folder import print_run

    print_run(run)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, with its weights.safetensors.")],
    form: Annotated[
        Literal["pt2", "onnx", "state-dict"],
        typer.Option(
            "--format",
            help="pt2: a program of torch.export, which needs no class; onnx: for onnxruntime and others, needs "
            "layerprune[onnx]; state-dict: weights alone.",
        ),
    ] = "pt2",
    output: Annotated[
        Path | None, typer.Option(help="File to write; absent: network.pt2, .onnx or .pt in the folder.")
    ] = None,
) -> None:
    """Write the network that is left of a run as a file for elsewhere."""
    from layerprune.suite import folder

    print(folder.export(run, form, output))


@app.command()
def evaluate(
    dataset: RunDataset,
    arch: Arch,
    method: Method,
    preset: PresetName = "laptop",
    variant: Variant = "default",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU where there is one.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Measure the test accuracy of a run's network again and compare it with the record. Trains nothing.

    Weights come from the run's folder or from the store. Exits with status 1 when the accuracy is another.
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


results = typer.Typer(help="The store of results that is committed: records.jsonl and its files.", no_args_is_help=True)
app.add_typer(results, name="results")


@results.command()
def pack(
    preset: PresetName = "laptop",
    dataset: DatasetName = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also the weights of the headline networks: dense and gated, first seed.")
    ] = False,
) -> None:
    """Take the runs in folders of a preset into its store: records.jsonl, curves, arrays."""
    from layerprune.suite import packing

    for line in packing.pack(preset, _datasets(preset, dataset), weights):
        print(line)


@results.command()
def unpack(preset: PresetName = "laptop", dataset: DatasetName = None) -> None:
    """Write the folders of the runs in the store; folders with a record stay as they are."""
    from layerprune.suite import store

    for each in _datasets(preset, dataset):
        done = sum(store.unpack(key) for key in store.keys(preset, each))
        print(f"{paths.results(preset) / each}: {done} runs unpacked")


@results.command()
def add(
    archive: Annotated[Path, typer.Argument(help="An archive that `layerprune campaign` wrote, perhaps elsewhere.")],
) -> None:
    """Merge the runs of a campaign's archive into the folders here; what is here already is never replaced.

    Exits with status 1 when a run was not added, because it is stale or in conflict with the one that is here.
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

    for each in _datasets(preset, dataset):
        _print_paths(build_tables(preset, each, partial=partial))


@app.command()
def figures(
    preset: PresetName = "quick",
    dataset: DatasetName = None,
    partial: Partial = False,
    name: Annotated[list[str] | None, typer.Option(help="Only this figure; may be given several times.")] = None,
) -> None:
    """Draw the figures: SVG, the plotted values as CSV, and PNG for those that README.md or a page of docs/ shows."""
    from layerprune.analysis.build import build_figures

    for each in _datasets(preset, dataset):
        _print_paths(build_figures(preset, each, names=name, partial=partial))


@app.command()
def claims(preset: PresetName = "quick") -> None:
    """Judge the paper's claims by the records there are: claims.csv and claims.md, by the rules of config/claims."""
    from layerprune.analysis.claims import ledger

    _print_paths(ledger.write(preset))


@app.command()
def latency(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN|FILE]...", help="Folders of runs, .pt2 or .onnx files; absent: the preset's runs."
        ),
    ] = None,
    preset: PresetName = "quick",
    dataset: DatasetName = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Images at a time; may be given several times; absent: 1 and 128, of single networks 1, 32 and 256.",
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Measurements of each network, of which quartiles are kept.")
    ] = 30,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU where there is one.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or both with a comma between.")] = "fp32",
    engine: Annotated[
        str, typer.Option(help="eager, compiled (torch.compile), onnxruntime, or several with commas between.")
    ] = "eager",
) -> None:
    """Measure how long inference takes with the network left of every run. The machine must be idle otherwise.

    Writes results/<preset>/<dataset>/latency.csv, which the figure latency-vs-macs shows; of single networks, which
    take turns, latency.csv in the run's folder or FILE.latency.csv. What cannot be measured is left out with one line.
    """
    from layerprune.library.latency import engines, measuring
    from layerprune.suite.latency import measure_networks, measure_runs
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
            _print_paths(measure_networks(models, conditions, _remark))
        else:
            _print_paths(measure_runs(preset, _datasets(preset, dataset), conditions, _remark))


@app.command()
def forecast(
    preset: PresetName = "paper",
    dataset: DatasetName = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto: a GPU where there is one.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; absent: the preset's.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps measured for each network.")] = 10,
    devices: Annotated[
        list[int] | None,
        typer.Option(min=1, help="How long with so many such devices; may be given several times; absent: 8 and 64."),
    ] = None,
) -> None:
    """How long a preset would take on this machine, from training steps measured here and now. Trains nothing."""
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
        print(f"at most {predicting.hours_on(count, settings, hours):.1f} hours on {count} such devices, a run on each")


@app.command()
def campaign(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="What to run: the name of config/campaigns/<plan>.yaml.")],
    minutes: Annotated[float, typer.Option(help="Time for everything; the last 20 seconds are for the archive.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; absent: cores / threads of a run.")] = None,
    lanes: Annotated[
        str | None,
        typer.Option(
            metavar="K|auto",
            help="Runs at a time as threads of one process, whose work overlaps on a GPU; auto: the fastest number; "
            "--jobs then counts the runs beside them that need processes, 1 if absent.",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N; absent: the preset's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the archive; absent: campaigns/.")] = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Begin a run that will not end in time, where no other fits; it is resumed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure training steps and say what would run and when; run nothing.")
    ] = False,
) -> None:
    """Make as many runs of a plan as fit into a given time, most important first, and pack them into one archive.

    What is finished is not run again, what was interrupted is resumed. Exits with status 1 when a run failed, and with
    75 when SIGTERM or Ctrl-C came: the archive is written all the same, and the same command goes on.
    """
    from layerprune.suite.campaign import command

    limits = command.limits_of(plan, minutes, jobs, device, fill, lanes)
    if dry_run:
        print(command.rehearse(plan, limits, _remark))
        return
    result = command.conduct(plan, limits, out, _remark)
    print(f"{result.summary}\n{result.archive}")
    if result.interrupted:
        raise typer.Exit(processes.REQUEUE)
    if result.failed:
        raise typer.Exit(1)


@app.command()
def verify(preset: PresetName = "quick", dataset: DatasetName = None) -> None:
    """Check every planned run: missing, stale, failed or out of range. Exits with status 1 when something is wrong."""
    from layerprune.analysis.verify import report
    from layerprune.analysis.verify import verify as find

    findings = find(preset, dataset)
    print(report(findings))
    if any(finding.is_error for finding in findings):
        raise typer.Exit(1)


@app.command()
def check_reproduction(
    preset: PresetName = "laptop",
    dataset: DatasetName = None,
    note: Annotated[
        bool, typer.Option("--note", help="Also keep the rows in results/PRESET/reproduced.csv, for docs/reproduce.md.")
    ] = False,
) -> None:
    """Compare fresh runs, in folders, with the committed records: equal bit for bit, within tolerance, or off.

    Exits with status 1 when a run is off.
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
def readme(
    preset: PresetName = "laptop",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with status 1 when out of date.")
    ] = False,
) -> None:
    """Renew the generated tables and figures of README.md."""
    from layerprune.analysis.readme import is_current, update

    path = paths.root() / "README.md"
    if not check:
        update(path, preset)
    elif not is_current(path, preset):
        print(
            f"{path}: generated parts are out of date; run: layerprune readme --preset {preset}",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def _datasets(preset: str, dataset: str | None) -> list[str]:
    known = list(config.load_preset(preset).datasets)
    if dataset is not None and dataset not in known:
        raise LayerpruneError(f"--dataset: '{dataset}' is not in preset {preset} (has: {', '.join(known)})")
    return [dataset] if dataset else known


def _remark(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    # Torch warns of a damaged file before it refuses it; the refusal alone is for people.
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
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
    if status == INTERRUPTED:
        print("layerprune: interrupted; the same command goes on from the saved state", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str) -> int:
    place = processes.torchrun_place()
    who = f"process {place.rank}: " if place is not None and place.rank > 0 else ""
    print(f"layerprune: {who}error: {' '.join(message.split())}", file=sys.stderr)
    return 2
