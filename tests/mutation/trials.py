"""Try copies of the package one after the other: a fork each of a process that has the slow libraries loaded already.

    python trials.py TRIALS.json       [[folder with a layerprune/, [names of golden cases]], ...]
prints a line of JSON for each: what the cases complain of, or the error that they ended with.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import numpy
import PIL.Image
import pydantic
import torch
import torchvision.transforms.v2
import typer

LOADED = numpy, PIL.Image, pydantic, torch, torchvision.transforms.v2, typer
TESTS = Path(__file__).parents[1]


def in_a_fork(folder: str, names: list[str], data: Path) -> str:
    """What comes of a trial, as a line."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        with os.fdopen(writing, "w") as told:
            told.write(json.dumps(complaints(folder, names, data)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        line = answer.read()
    os.wait()
    return line or json.dumps("the process died")


def complaints(folder: str, names: list[str], data: Path) -> str:
    """What golden cases say of the package in a folder."""
    torch.set_num_threads(1)
    sys.path[:0] = [folder, str(TESTS)]
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- until the process ends
    try:
        from golden import cases, runs, store

        with tempfile.TemporaryDirectory() as root, runs.workplace(Path(root, "root"), data):
            chosen = [cases.all_cases()[name] for name in names]
            told = [cases.complaint(case, store.read(case.group).get(case.name), case.values()) for case in chosen]
        return "\n".join(filter(None, told))
    except BaseException:
        return traceback.format_exc()


if __name__ == "__main__":
    trials = json.loads(Path(sys.argv[1]).read_text())
    for trial in trials:
        print(in_a_fork(*trial, Path(sys.argv[2])), flush=True)
