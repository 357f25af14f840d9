"""Writes docs/recipe-table.md: what each setting of preset recipe-search reached, from the records in the store."""

import json
import statistics
from collections import defaultdict
from pathlib import Path

from layerprune.suite import config
from layerprune.suite.config import load_preset
from layerprune.system.paths import RunKey

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "recipe-table.md"
PRESET, DATASET, ARCH = "recipe-search", "cifar10", "resnet-20"


def table_text() -> str:
    """Markdown, variants in the preset's order, accuracies in percent."""
    found = defaultdict(list)
    for line in (ROOT / "results" / PRESET / DATASET / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        found[record["variant"]].append((record["val_accuracy"], record["test_accuracy"]))
    preset = load_preset(PRESET)
    order = list(dict.fromkeys(key.variant for key in config.plan(preset, PRESET)))
    base = _settings(preset, "default")
    lines = ["| setting | runs | validation, % | test, % |", "| :--- | ---: | ---: | ---: |"]
    for variant in (each for each in order if each in found):
        changed = [f"{name} {value}" for name, value in _settings(preset, variant).items() if base[name] != value]
        means = [f"{100 * statistics.mean(values):.1f}" for values in zip(*found[variant], strict=True)]
        what = ", ".join(changed) or "**the recipe**"
        lines.append(f"| {what} | {len(found[variant])} | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def _settings(preset: config.Preset, variant: str) -> dict:
    settings = config.resolve(preset, RunKey(PRESET, DATASET, ARCH, "dense", variant, 0))
    return settings.training.model_dump() | settings.model.model_dump()


if __name__ == "__main__":
    TABLE.write_text(table_text())
