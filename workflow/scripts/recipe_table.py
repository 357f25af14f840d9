"""Writes docs/recipe-table.md, price-table.md and rival-table.md: what each setting of the presets recipe-search,
price-search and rival-search reached, from the records in the store.
"""

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from layerprune.suite import config
from layerprune.suite.config import load_preset
from layerprune.system.paths import RunKey

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "recipe-table.md"
PRICES = ROOT / "docs" / "price-table.md"
RIVALS = ROOT / "docs" / "rival-table.md"
PRESET, PRICE_PRESET, RIVAL_PRESET = "recipe-search", "price-search", "rival-search"
DATASET, ARCH = "cifar10", "resnet-20"
KNOBS = {
    "hard-concrete": ("penalty",),
    "sss": ("gamma",),
    "lacoot": ("strength",),
    "stochastic-depth": ("final_survival",),
    "gal": ("penalty",),
}
SCORES = ("magnitude", "imprinting")


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
    settings = config.resolve(preset, key).method_settings()
    told = [f"{name} {getattr(settings, name)}" for name in ("nu", "theta_lr", "price_ramp") if hasattr(settings, name)]
    cells = [
        record["arch"],
        ", ".join([record["method"], *told]),
        f"{sum(record['keep'])} of {record['sections_total']}",
        f"× {record['macs'] / record['macs_dense']:.2f}",
        f"{record['train_macs'] / 1e12:.1f}",
        *(f"{100 * record[name]:.1f}" for name in ("val_accuracy", "test_accuracy")),
    ]
    return f"| {' | '.join(cells)} |"


def rival_text() -> str:
    """Markdown, a row a run in the preset's order; what a variant changes is named, of the main setting what it has."""
    preset, found = load_preset(RIVAL_PRESET), {_key(record): record for record in _records(RIVAL_PRESET)}
    lines = [
        "| method | fine-tuning | sections left | training MACs, T | validation, % | test, % |",
        "| :--- | :--- | ---: | ---: | ---: | ---: |",
    ]
    for key in (each for each in config.plan(preset, RIVAL_PRESET) if each in found):
        lines.append(_rival_row(preset, key, found[key]))
    return "\n".join(lines) + "\n"


def _rival_row(preset: config.Preset, key: RunKey, record: dict[str, Any]) -> str:
    settings = config.resolve(preset, key)
    named = [f"{name} {settings.settings[name]}" for name in KNOBS.get(key.method, ())]
    tuned = f"{settings.finetune.duration}, lr {settings.finetune.lr}" if key.method in SCORES else "–"
    cells = [
        ", ".join([record["method"], *named]),
        tuned,
        f"{sum(record['keep'])} of {record['sections_total']}",
        f"{record['train_macs'] / 1e12:.1f}",
        *(f"{100 * record[name]:.1f}" for name in ("val_accuracy", "test_accuracy")),
    ]
    return f"| {' | '.join(cells)} |"


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
    RIVALS.write_text(rival_text())
