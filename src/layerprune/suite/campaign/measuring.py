"""A training step measured in a process that starts as a run does, so that its start-up is measured with it.

python -m layerprune.suite.campaign.measuring DEVICE THREADS RUN [RUN...] [--eager] prints one line of JSON. The step is
the first run's; of all runs it tells the steps that are left to make. Torch is imported only then.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from layerprune.suite import config
from layerprune.suite.campaign.estimates import Measured
from layerprune.suite.config import Preset
from layerprune.system import cpu, paths
from layerprune.system.paths import RunKey

if TYPE_CHECKING:
    import torch

STEPS = 8
"""Steps measured after the warm-up."""
EAGERLY = "--eager"
"""Among the runs: steps are not recorded."""
BEGINNING = '{"step": '
"""Of the line that tells: torch may have something to say besides."""


def command(device: str, threads: int, keys: list[RunKey]) -> list[str]:
    """What measures the step that these runs share."""
    return [sys.executable, "-m", __spec__.name, device, str(threads), *map(str, keys)]


def parsed(printed: str, seconds: float) -> Measured | None:
    """What a process printed that took so many seconds: those without measured steps are a run's start-up.

    None where it printed no measurement.
    """
    lines = [line for line in printed.splitlines() if line.startswith(BEGINNING)]
    if not lines:
        return None
    told = json.loads(lines[-1])
    steps = {_key(name): count for name, count in told["steps"].items()}
    return Measured(max(0.0, seconds - STEPS * told["step"]), told["step"], steps)


def main(device: str, threads: str, *names: str) -> None:
    keys = [_key(name) for name in names if name != EAGERLY]
    preset = config.load_preset(keys[0].preset)
    cpu.choose(preset.resources.cpu_kernels)  # before torch is imported
    from layerprune.system.devices import choose_device, exact_float32

    exact_float32()
    print(line(preset, keys, choose_device(device), int(threads), records=EAGERLY not in names))


def line(preset: Preset, keys: list[RunKey], device: "torch.device", threads: int, records: bool = True) -> str:
    """What the first run's step takes, and the steps that each run has left."""
    from layerprune.core.training.state import steps_done
    from layerprune.suite import forecast

    settings = {key: config.resolve(preset, key) for key in keys}
    step = forecast.seconds_a_step(settings[keys[0]], device, threads, STEPS, records)
    left = {key: max(0, forecast.training_steps(settings[key]) - steps_done(paths.state(key))) for key in keys}
    return json.dumps({"step": step, "steps": {str(key): count for key, count in left.items()}})


def _key(name: str) -> RunKey:
    return paths.parse_run_folder(Path(name))


if __name__ == "__main__":
    main(*sys.argv[1:])
