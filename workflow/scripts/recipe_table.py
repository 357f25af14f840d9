"""Writes docs/recipe-table.md and docs/price-table.md: what each setting of the presets recipe-search and price-search
reached, from the records in the store.
"""

import json
import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from layerprune.suite import config
from layerprune.suite.config import load_preset
from layerprune.system.paths import RunKey

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "recipe-table.md"
PRICES = ROOT / "docs" / "price-table.md"
SHOWN = ("nu", "theta_lr")
"""Settings of gated that are named in every row of the prices."""
PRESET, PRICE_PRESET, DATASET, ARCH = "recipe-search", "price-search", "cifar10", "resnet-20"


def table_text() -> str:
    """Markdown, variants in the preset's order, accuracies in percent."""
    found = defaultdict(list)
    for record in _records(PRESET):
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


def price_text() -> str:
    """Markdown, a row a run in the preset's order."""
    preset, found = load_preset(PRICE_PRESET), {_key(record): record for record in _records(PRICE_PRESET)}
    lines = [
        "| network | method | sections left | MACs | training MACs, T | validation, % | test, % |",
        "| :--- | :--- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key in (each for each in config.plan(preset, PRICE_PRESET) if each in found):
        lines.append(_price_row(preset, key, found[key]))
    return "\n".join(lines) + "\n"


def _price_row(preset: config.Preset, key: RunKey, record: dict[str, Any]) -> str:
    cells = [
        record["arch"],
        ", ".join([record["method"], *_told(preset, key)]),
        f"{sum(record['keep'])} of {record['sections_total']}",
        f"× {record['macs'] / record['macs_dense']:.2f}",
        f"{record['train_macs'] / 1e12:.1f}",
        *(f"{100 * record[name]:.1f}" for name in ("val_accuracy", "test_accuracy")),
    ]
    return f"| {' | '.join(cells)} |"


def _told(preset: config.Preset, key: RunKey) -> list[str]:
    """A run's price and step size, and whatever else differs from the method's main setting."""
    own, main = (config.resolve(preset, each).settings for each in (key, replace(key, variant="default")))
    return [f"{name} {value}" for name, value in own.items() if name in SHOWN or value != main[name]]


def _records(preset: str) -> list[dict[str, Any]]:
    path = ROOT / "results" / preset / DATASET / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def _key(record: dict[str, Any]) -> RunKey:
    return RunKey(*(record[name] for name in ("preset", "dataset", "arch", "method", "variant", "seed")))


def _settings(preset: config.Preset, variant: str) -> dict:
    settings = config.resolve(preset, RunKey(PRESET, DATASET, ARCH, "dense", variant, 0))
    return settings.training.model_dump() | settings.model.model_dump()


if __name__ == "__main__":
    TABLE.write_text(table_text())
    PRICES.write_text(price_text())
