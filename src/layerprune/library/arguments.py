"""Checks of arguments: what does not fit is one line that names the argument, what is wanted and what was given."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from layerprune.errors import LayerpruneError


def is_number(value: Any) -> bool:
    """Whether it is a real number, NumPy's included, but not True or False."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def require(fits: bool, caller: str, wanted: str, given: Any) -> None:
    """Raises LayerpruneError unless the argument fits; `wanted` says which one it is and what it has to be."""
    if not fits:
        raise LayerpruneError(f"{caller}: {wanted}, not {shown(given)}")


def shown(value: Any) -> str:
    """A value in an error's line; of what is no plain value its class."""
    if value is None or isinstance(value, str | Real):
        return repr(value)[:80]
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Sequence) and all(each is None or isinstance(each, str | Real) for each in value):
        return repr(value)[:80]
    return type(value).__name__
