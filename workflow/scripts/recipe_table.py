"""Writes the tables of docs/recipe.md: what each setting of the presets recipe-search, recipe-lossless, price-search
and rival-search reached, from the records in the store.

python workflow/scripts/recipe_table.py
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import page_tables

from layerprune.suite import config
from layerprune.suite.config import load_preset
from layerprune.system.paths import RunKey

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipe.md"
PRESET, LOSSLESS_PRESET = "recipe-search", "recipe-lossless"
PRICE_PRESET, RIVAL_PRESET = "price-search", "rival-search"
DATASET, ARCH = "cifar10", "resnet-20"
KNOBS = {
    "gated": ("nu", "theta_lr"),
    "hard-concrete": ("penalty",),
    "sss": ("gamma",),
    "lacoot": ("strength",),
    "stochastic-depth": ("final_survival",),
    "gal": ("penalty",),
}
EXPERIMENTS = ("estimator-error", "random-removal")
SCORES = ("magnitude", "imprinting")
CHANGES_NOTHING = ("watch",)
"""Settings that only measure more."""
Records = list[dict[str, Any]]
FIGURES = ("training MACs, T", "validation, %", "test, %")


def settings_text() -> str:
    """Markdown, variants in the preset's order, accuracies in percent."""
    found = defaultdict(list)
    for record in _records(PRESET, DATASET):
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


def lossless_text() -> str:
    """Markdown, a row a setting: test accuracy on the publisher's pixels and, with the same seeds, on JPEGs."""
    found = {
        preset: {
            (record["variant"], record["seed"]): 100 * record["test_accuracy"] for record in _records(preset, DATASET)
        }
        for preset in (PRESET, LOSSLESS_PRESET)
    }
    pairs = defaultdict(list)
    for key in found[LOSSLESS_PRESET]:
        if key in found[PRESET]:
            pairs[key[0]].append((found[LOSSLESS_PRESET][key], found[PRESET][key]))
    preset = load_preset(LOSSLESS_PRESET)
    base = _settings(preset, "default", LOSSLESS_PRESET)
    lines = ["| setting | runs | PNG, % | JPEG, % | difference |", "| :--- | ---: | ---: | ---: | ---: |"]
    for variant in dict.fromkeys(key.variant for key in config.plan(preset, LOSSLESS_PRESET) if key.variant in pairs):
        own = _settings(preset, variant, LOSSLESS_PRESET)
        told = [f"{name} {own[name]}" for name in own if name in ("width", "duration") or own[name] != base[name]]
        png, jpeg = (statistics.mean(values) for values in zip(*pairs[variant], strict=True))
        lines.append(f"| {', '.join(told)} | {len(pairs[variant])} | {png:.1f} | {jpeg:.1f} | {png - jpeg:+.1f} |")
    return "\n".join(lines) + "\n"


def price_text(dataset: str) -> str:
    """Markdown, a row a method and setting, by network and in the preset's order; numbers are means over seeds."""
    titles = ("network", "method", "runs", "sections left", "depth", "MACs", *FIGURES)
    return _table(PRICE_PRESET, dataset, titles, _price_row)


def rival_text() -> str:
    """Markdown, a row a method and setting in the preset's order, with the setting that is searched."""
    return _table(RIVAL_PRESET, DATASET, ("method", "fine-tuning", "sections left", *FIGURES), _rival_row)


def _table(name: str, dataset: str, titles: Sequence[str], row: Callable[..., list[str]]) -> str:
    preset, found = load_preset(name), defaultdict(list)
    for record in _records(name, dataset):
        if record["method"] not in EXPERIMENTS:
            found[replace(_key(record), seed=0)].append(record)
    keys = list(dict.fromkeys(replace(key, seed=0) for key in config.plan(preset, name)))
    archs = list(dict.fromkeys(key.arch for key in keys))
    words = sum(title in ("network", "method", "fine-tuning") for title in titles)
    rules = [":---"] * words + ["---:"] * (len(titles) - words)
    by_network = sorted((key for key in keys if key in found), key=lambda key: archs.index(key.arch))
    rows = [[*row(preset, key, found[key]), *_figures(found[key])] for key in by_network]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [titles, rules, *rows])


def _figures(records: Records) -> list[str]:
    accuracies = (f"{100 * _mean(records, name):.1f}" for name in ("val_accuracy", "test_accuracy"))
    return [f"{_mean(records, 'train_macs') / 1e12:.{1 if _mean(records, 'train_macs') > 1e12 else 3}f}", *accuracies]


def _mean(records: Records, name: str) -> float:
    return statistics.mean(record[name] for record in records)


def _left(records: Records) -> str:
    """Such as 4 of 7, or of several seeds 4, 3, 3 of 7."""
    left = [str(sum(record["keep"])) for record in sorted(records, key=lambda record: record["seed"])]
    return f"{', '.join(left if len(set(left)) > 1 else left[:1])} of {records[0]['sections_total']}"


def _price_row(preset: config.Preset, key: RunKey, records: Records) -> list[str]:
    saved = f"× {_mean(records, 'macs') / records[0]['macs_dense']:.2f}"
    depth = f"{_mean(records, 'depth'):.1f}".removesuffix(".0")
    return [key.arch, _told(preset, key), str(len(records)), _left(records), depth, saved]


def _rival_row(preset: config.Preset, key: RunKey, records: Records) -> list[str]:
    finetune = config.resolve(preset, key).finetune
    tuned = f"{finetune.duration}, lr {finetune.lr}" if key.method in SCORES else "–"
    return [_told(preset, key), tuned, _left(records)]


def _told(preset: config.Preset, key: RunKey) -> str:
    """A method, the settings that are searched, and whatever else differs from its main setting."""
    own, main = (config.resolve(preset, each).settings for each in (key, replace(key, variant="default")))
    shown = KNOBS.get(key.method, ())
    telling = {name: value for name, value in own.items() if name not in CHANGES_NOTHING}
    named = [f"{name} {value}" for name, value in telling.items() if name in shown or value != main[name]]
    only_watched = telling == {name: main[name] for name in telling} and own != main
    return ", ".join([key.method, *named, *(["watched"] if only_watched else [])])


def _records(preset: str, dataset: str) -> Records:
    path = ROOT / "results" / preset / dataset / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _key(record: dict[str, Any]) -> RunKey:
    return RunKey(*(record[name] for name in ("preset", "dataset", "arch", "method", "variant", "seed")))


def _settings(preset: config.Preset, variant: str, name: str = PRESET) -> dict:
    settings = config.resolve(preset, RunKey(name, DATASET, ARCH, "dense", variant, 0))
    return settings.training.model_dump() | settings.model.model_dump()


def tables() -> dict[str, str]:
    """Each table by its name in the page."""
    return {
        "settings": settings_text(),
        "lossless": lossless_text(),
        "price-cifar10": price_text("cifar10"),
        "price-mnist": price_text("mnist"),
        "rivals": rival_text(),
    }


if __name__ == "__main__":
    PAGE.write_text(page_tables.filled(PAGE, tables()), encoding="utf-8")
