"""Measure and print a table of ratios; see `python -m bench --help`."""

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from bench import (
    against_torch_pruning,
    engines,
    feeding,
    gates,
    inference,
    loader,
    on_gpu,
    row_subset,
    runs,
    shared,
    steps,
    streams,
    throughput,
)
from bench.timing import Measurement
from layerprune.system import files
from layerprune.system.cpu import cpu_name

VERDICT = {None: "", True: "met", False: "missed"}


PARTS: dict[str, Callable[[bool], Iterator[Measurement]]] = {
    "steps": lambda quick: steps.measure(rounds=25 if quick else 201),
    "gates": lambda quick: gates.measure(rounds=3 if quick else 15),
    "row-subset": lambda quick: row_subset.measure(rounds=3 if quick else 9),
    "engines": lambda quick: engines.measure(rounds=3 if quick else 9, processes=1 if quick else 3),
    "throughput": lambda quick: throughput.measure(rounds=3 if quick else 9),
    "loader": lambda quick: loader.measure(rounds=3 if quick else 7, images=1_000 if quick else 10_000),
    "streams": lambda quick: streams.measure(rounds=3 if quick else 9, images=64 if quick else 256),
    "feeding": lambda quick: feeding.measure(rounds=3 if quick else 9, steps=10 if quick else 20),
    "shared": lambda quick: shared.measure(rounds=3 if quick else 7, steps=10 if quick else 20),
    "runs": lambda quick: runs.measure(rounds=3 if quick else 9, epochs=4 if quick else 8),
    "on-gpu": lambda quick: on_gpu.measure(3, archs=("resnet-56",)) if quick else on_gpu.measure(9),
    "inference": lambda quick: inference.measure(rounds=25 if quick else 201),
    "against-torch-pruning": lambda quick: against_torch_pruning.measure(rounds=25 if quick else 201),
}
"""What can be asked for by name -> its measurements; True: fewer rounds."""


def usual_parts() -> list[str]:
    """What is measured where nothing is named: all that this machine can."""
    return [name for name in PARTS if name != "on-gpu" or torch.cuda.is_available()]


def measure(names: Sequence[str], quick: bool) -> Iterator[Measurement]:
    """The named parts, one measurement at a time."""
    for name in names:
        yield from PARTS[name](quick)


def report(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Print each line as soon as it is there; returns them."""
    print(f"{'what':<62} {'ratio':>6}  {'quartiles':<13} {'target':<8} ")
    done = []
    for each in measurements:
        spread = f"{each.low:.2f} .. {each.high:.2f}"
        verdict = VERDICT[each.meets_target]
        print(
            f"{each.name:<62} {each.ratio:>6.2f}  {spread:<13} {each.target:<8} {verdict:<7} {each.note}".rstrip(),
            flush=True,
        )
        done.append(each)
    return done


def as_json(measurements: list[Measurement], threads: int) -> dict:
    """What was measured and with what."""
    rows = [asdict(each) | {"meets_target": each.meets_target} for each in measurements]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {"cpu": cpu_name(), "cores": os.cpu_count(), "gpu": gpu}
    return {"torch": torch.__version__, "threads": threads, **hardware, "measurements": rows}


def main(words: Sequence[str] | None = None) -> None:
    """Measured ratios never fail the command: the machine may be busy."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"only these parts: {', '.join(PARTS)}")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds: some minutes instead of a quarter of an hour"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads (default 1, as runs have; throughput has 2)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the measurements there too")
    chosen = parser.parse_args(words)
    unknown = [name for name in chosen.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown part '{unknown[0]}' (known: {', '.join(PARTS)})")
    torch.set_num_threads(chosen.threads)
    measurements = report(measure(chosen.parts or usual_parts(), chosen.quick))
    if chosen.json:
        files.write_json(chosen.json, as_json(measurements, chosen.threads))


if __name__ == "__main__":
    main()
