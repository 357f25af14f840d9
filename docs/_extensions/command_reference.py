"""Every command of `layerprune`, from the functions that typer makes commands of."""

import inspect
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from layerprune.cli import app


class Parameter(NamedTuple):
    """One parameter of a command, as it is typed: `--preset TEXT` or `RUN`."""

    typed: str
    help: str
    default: Any
    required: bool


def page() -> str:
    """Sections in Markdown, a command each."""
    return "\n\n".join(_command(each.name or each.callback.__name__, each.callback) for each in app.registered_commands)


def parameters(function: Callable) -> Iterator[Parameter]:
    """The parameters of a command, in their order."""
    hints = inspect.get_annotations(function, eval_str=True)
    for name, each in inspect.signature(function).parameters.items():
        kind, about = get_args(hints[name])
        required = each.default is inspect.Parameter.empty
        if isinstance(about, ArgumentInfo):
            yield Parameter(name.upper(), about.help, None, required)
        elif isinstance(about, OptionInfo):
            option = about.default if isinstance(about.default, str) else f"--{name.replace('_', '-')}"
            value = about.metavar or _value(kind)
            yield Parameter(f"{option} {value}".strip(), about.help, each.default, required)


def _value(kind: Any) -> str:
    """What stands behind an option; nothing behind a flag."""
    if get_origin(kind) in (Union, UnionType):
        return _value(next(each for each in get_args(kind) if each is not type(None)))
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) is list:
        return _value(get_args(kind)[0])
    return {bool: "", int: "INTEGER"}.get(kind, kind.__name__.upper().replace("STR", "TEXT"))


def _command(name: str, function: Callable) -> str:
    described = list(parameters(function))
    needed = [each.typed for each in described if each.required]
    usage = " ".join(["layerprune", name, *needed, *["[OPTIONS]"] * (len(needed) < len(described))])
    text = inspect.cleandoc(function.__doc__ or "").replace("<", r"\<")
    return "\n\n".join([f"## {name}", text, f"```text\n{usage}\n```", *map(_entry, described)])


def _entry(parameter: Parameter) -> str:
    told = parameter.help.replace("<", r"\<").replace("*", r"\*")
    if parameter.required:
        told += " *Required.*"
    elif parameter.default is not None and parameter.default is not False:
        told += f" *Default: `{parameter.default}`.*"
    return f"`{parameter.typed}`\n: {told}"
