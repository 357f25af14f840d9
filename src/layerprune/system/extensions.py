"""Files that anybody may add: a method, a network, a data set. Each is found by its name and defines one thing to call.

What such a file lacks is one line that names it; errors within what it defines are left as they are.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from layerprune.errors import LayerpruneError
from layerprune.system.files import syntax_problem


def imported(name: str) -> ModuleType:
    """The module with this dotted name. Raises LayerpruneError naming file and line if it is not valid Python."""
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        raise LayerpruneError(syntax_problem(error, error.filename or name)) from None


def entry_point(module: ModuleType, name: str, arguments: Iterable[str], optional: Iterable[str] = ()) -> Callable:
    """What a file has to define: `name`, which takes these arguments, and by their names those of the optional ones
    that it asks for.

    Raises LayerpruneError naming the file if it does not define it, or with other arguments.
    """
    found, wanted = getattr(module, name, None), f"{name}({', '.join(arguments)})"
    if not callable(found):
        raise LayerpruneError(f"{module.__file__}: must define {wanted}")
    try:
        signature = inspect.signature(found)
    except ValueError:  # of a function written in C; the call will tell
        return found
    try:
        signature.bind(*arguments, **{each: each for each in optional if each in signature.parameters})
    except TypeError as error:
        raise LayerpruneError(f"{module.__file__}: must define {wanted}: {error}") from None
    return found


def checked_return(value: Any, kind: type, function: Callable) -> Any:
    """The value, if it is of this kind. Raises LayerpruneError naming the file of the function that returned it."""
    if not isinstance(value, kind):
        where, name = getattr(inspect.getmodule(function), "__file__", "?"), getattr(function, "__name__", "?")
        raise LayerpruneError(f"{where}: {name} must return a {kind.__name__}, not {type(value).__name__}")
    return value
