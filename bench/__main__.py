"""Print ratios with their spread (median and quartiles over paired rounds). Nothing here writes to results/."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench import inference, loader, runs, steps
from bench.timing import Comparison


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Few rounds: seconds instead of minutes, wider spread.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads.", min=1)] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
) -> None:
    """Measure side by side, in this one process: steps, loader, whole runs, inference."""
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} threads, {'CUDA' if torch.cuda.is_available() else 'CPU'}")
    print("ratio [quartiles]: below 1 means that the first is faster\n")
    found = _measure(quick)
    if json_path is not None:
        json_path.write_text(json.dumps([dataclasses.asdict(each) for each in found], indent=2) + "\n")


def _measure(quick: bool) -> list[Comparison]:
    rounds = 10 if quick else 100
    parts = (
        lambda: steps.gated_against_dense(rounds),
        lambda: steps.alive_against_built_small(rounds),
        lambda: steps.steps_by_sections(rounds),
        lambda: loader.ours_against_torchvision(2000 if quick else 20000, 2 if quick else 5),
        lambda: runs.gated_against_dense(4 if quick else 40, 2 if quick else 5),
        lambda: inference.pruned_against_dense(rounds),
    )
    found = []
    for part in parts:
        for comparison in part():
            print(comparison.line(), flush=True)
            found.append(comparison)
    return found


if __name__ == "__main__":
    typer.run(main)
