"""Every key that a preset may have, from the settings classes: values, default, meaning."""

from collections.abc import Iterator, Mapping
from typing import Any

from layerprune.core import methods
from layerprune.core.methods import settings_class
from layerprune.core.settings import FinetuneSettings, ModelSettings, Settings, TrainingSettings
from layerprune.suite.config import Preset
from layerprune.suite.config import preset as blocks

PLACES: dict[str, type[Settings]] = {
    "The whole preset": Preset,
    "`datasets.NAME`": blocks.DatasetBlock,
    "`datasets.NAME.archs.ARCH`": blocks.ArchBlock,
    "`methods.METHOD`, of a data set or an architecture": blocks.MethodBlock,
    "`methods.METHOD.variants.NAME`": blocks.VariantBlock,
    "`training`": TrainingSettings,
    "`finetune`": FinetuneSettings,
    "`model`, of an architecture": ModelSettings,
    "`resources`": blocks.ResourceSettings,
    "`data`": blocks.DataSettings,
}
"""Heading -> settings that stand there."""
MAPPING = "mapping"
DURATION = r"^[0-9]+(ep|it)$"


def page() -> str:
    """Sections in Markdown: places of a preset first, then methods by their settings."""
    parts = [_part(f"## {place}", schema) for place, schema in PLACES.items()]
    return "\n\n".join([*parts, "## Settings of methods", *_of_methods()])


def _of_methods() -> Iterator[str]:
    """Methods that share a settings class share a part; those without settings come last."""
    users: dict[type[Settings], list[str]] = {}
    for slug in methods.families():
        users.setdefault(settings_class(slug), []).append(slug)
    for schema, slugs in users.items():
        if schema.model_fields:
            yield _part(f"### {', '.join(f'`{slug}`' for slug in slugs)}", schema)
    without = [slug for schema, slugs in users.items() if not schema.model_fields for slug in slugs]
    yield f"### Methods without settings\n\n{', '.join(f'`{slug}`' for slug in without)}."


def _part(heading: str, schema: type[Settings]) -> str:
    properties = schema.model_json_schema()["properties"]
    keys = "\n\n".join(_key(name, each) for name, each in properties.items())
    return f"{heading}\n\n{_plain(schema.__doc__ or '')}\n\n{keys}"


def _key(name: str, schema: Mapping[str, Any]) -> str:
    told = values(schema)
    if told != MAPPING:
        told += f"; default: {_default(schema.get('default'))}"
    return f"`{name}`\n: {_plain(schema['description'])} *({told})*"


def _default(value: Any) -> str:
    return "absent" if value in (None, "") else f"`{_written(value)}`"


def values(schema: Mapping[str, Any]) -> str:
    """What a key may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(values(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "$ref" in schema or schema.get("type") == "object":
        return MAPPING
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{_written(each)}`" for each in schema.get("enum", [schema.get("const")]))
    if schema.get("pattern") == DURATION:
        return "duration, such as `20ep` or `6400it`"
    kind = schema.get("type")
    if kind == "array":
        return f"list: {values(schema['items'])}" if "items" in schema else "list"
    words = {"string": "text", "boolean": "`true` or `false`", "integer": "whole number", "number": "number"}
    return words[kind] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    signs = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    told = [f"{words} {schema[key]:g}" for key, words in signs.items() if key in schema and schema[key] < 2**31 - 1]
    if "multipleOf" in schema:
        told.append(f"a multiple of {schema['multipleOf']}")
    return f", {', '.join(told)}" if told else ""


def _written(value: Any) -> str:
    """A value as YAML has it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _plain(text: str) -> str:
    """Text that means itself in Markdown."""
    return " ".join(text.split()).replace("_", r"\_").replace("*", r"\*").replace("|", r"\|").replace("<", r"\<")
