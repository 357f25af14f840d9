"""Programs of torch.export from files that nobody vouches for: what torch's own loader would run is refused before.

torch.export.load unpickles, imports, and evaluates text of the file: expressions of sizes, guards, names of nodes (they
become source code), operators and types by name, libraries of AOTInductor. Here only what is known to be harmless gets
through. The archive that torch reads is made anew from members that were checked: raw numbers as they are, the example
input unpickled as tensors alone (weights_only) and packed again, the graph with its texts checked one by one. Whatever
else a program needs is refused with one line; who trusts a file's origin can give it to torch.export.load.

Written for torch 2.11 and 2.12, tested with 2.12 (format "pt2", archive version 0). An operator that reads or writes
files is refused too.
What is not promised: that operators keep their memory safe whatever sizes they are given.
"""

import ast
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from layerprune.core.networks.storage import tensors_as_bytes, tensors_from
from layerprune.errors import LayerpruneError
from layerprune.system import files, zips


def read_program(path: Path) -> ExportedProgram:
    """The program in a file, with the example that it was exported with. Raises LayerpruneError naming the file."""
    content = files.read_regular(path, files.LARGEST_WEIGHTS)
    try:
        packed = _packed(_checked(_members(content)))
        with _quiet():
            return torch.export.load(packed)
    except _Refused as refusal:
        raise LayerpruneError(
            f"{path}: not opened: {refusal}, which could run code (torch.export.load opens it all the same)"
        ) from None
    except Exception as error:  # of a damaged file
        raise _spoilt(path, error) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings of its own buffers, and its log, which shows a traceback beside each error."""
    logger = logging.getLogger("torch")
    before = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(before)


def module_of(program: ExportedProgram, path: Path) -> nn.Module:
    """The module of a program that was read from `path`, in evaluation mode. Raises LayerpruneError naming the file."""
    try:
        return program.module()
    except Exception as error:  # torch writes and runs source code for it: many kinds
        raise _spoilt(path, error) from None


def _spoilt(path: Path, error: Exception) -> LayerpruneError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return LayerpruneError(f"{path}: not a program of torch.export: {reason}")


class _Refused(Exception):
    """What the file holds beyond plain numbers and a plain graph."""


# --- members of the archive -----------------------------------------------------------------------------------------

_GRAPH, _EXAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_TABLES = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder"
    r"|(\.data/)?version|\.data/serialization_id"
)


def _members(content: bytes) -> dict[str, bytes]:
    """Every member by its name below the archive's one folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found: dict[str, bytes] = {}
        for info in zips.stored_members(archive, len(content)):
            name = info.filename.partition("/")[2]
            if name in found:
                raise ValueError(f"two members are called {_short(info.filename)}")
            found[name] = archive.read(info)
        return found


def _checked(members: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name, content in members.items():
        if name == _EXAMPLE:
            content = tensors_as_bytes(tensors_from(content, "its example input"))
        elif name == _GRAPH:
            content = json.dumps(_graph_of(_parsed(name, content))).encode()
        elif name in _TABLES:
            content = json.dumps(_table_of(_parsed(name, content))).encode()
        elif not _PLAIN.fullmatch(name):
            raise _Refused(f"it holds {_short(name)}")
        yield name, content


def _parsed(name: str, content: bytes) -> Any:
    """JSON, which takes ten times its size in memory."""
    if len(content) > files.LARGEST_TEXT:
        raise ValueError(f"{name} has {len(content):,} bytes, more than {files.LARGEST_TEXT:,}")
    return json.loads(content.decode())


def _packed(members: Iterator[tuple[str, bytes]]) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(f"archive/{name}", content)
    packed.seek(0)
    return packed


def _table_of(table: Any) -> Any:
    """Which member holds which tensor; one that is pickled is refused."""
    for name, each in table["config"].items():
        if each["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", each["path_name"]):
            raise _Refused(f"{_short(name)} is stored as a pickled object")
    return table


# --- texts of the graph ---------------------------------------------------------------------------------------------

_NAME = re.compile(r"[\w.+-]*", re.ASCII)
_STACK = re.compile(r"[\w.,;@()<>\[\] -]*", re.ASCII)  # <locals> is part of the names of classes within functions
_FORBIDDEN_KEYS = {"as_custom_obj", "custom_obj"}


def _graph_of(graph: Any) -> Any:
    """The graph, every text in it checked. Notes about nodes are left out, but for the modules that they come from."""
    return _walked(graph, "")


def _walked(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {_named(name): _walked(each, name) for name, each in _notes_left(value, key).items()}
    if isinstance(value, list):
        return [_walked(each, key) for each in value]
    if isinstance(value, str):
        _CHECKS.get(key, _check_name)(value)
    return value


def _notes_left(value: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value[name] for name in value.keys() & {"nn_module_stack"}} if key == "metadata" else value


def _named(key: str) -> str:
    if key in _FORBIDDEN_KEYS:
        raise _Refused("it holds an object of a class of its own")
    _check_name(key)
    return key


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise _Refused(f"it holds the name {_short(text)}")


def _check_stack(text: str) -> None:
    if not _STACK.fullmatch(text):
        raise _Refused(f"it holds the names of modules {_short(text)}")


_SIZES = {"add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "pos", "pow", "lshift", "rshift", "getitem"}
_SIZES |= {"eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_"}
_HIGHER = {"cond", "wrap_with_set_grad_enabled", "wrap_with_autocast"}


def _check_operator(text: str) -> None:
    place, _, name = text.rpartition(".")
    known = (
        (place == "_operator" and name in _SIZES)
        or (place == "torch.ops.higher_order" and name in _HIGHER)
        or (place == "torch" and re.fullmatch(r"sym_[a-z]+", name))
        or (place == "math" and re.fullmatch(r"[a-z]+", name))
        or (place.startswith("torch.ops.aten.") and _is_of_tensors(place.removeprefix("torch.ops.aten."), name))
    )
    if not known:
        raise _Refused(f"it calls {_short(text)}")


def _is_of_tensors(operator: str, overload: str) -> bool:
    """Whether ATen has it, and it takes no file's name."""
    packet = getattr(torch.ops.aten, operator, None) if re.fullmatch(r"[a-z_]\w*", operator) else None
    if not isinstance(packet, torch._ops.OpOverloadPacket) or overload not in packet.overloads():
        return False
    return all(argument.name != "filename" for argument in getattr(packet, overload)._schema.arguments)


def _check_structure(text: str) -> None:
    """How inputs or outputs are nested, as torch.utils._pytree writes it: [1, tree]."""
    _, tree = json.loads(text)
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if node["type"] not in (None, "builtins.tuple", "builtins.list", "builtins.dict"):
            raise _Refused(f"it makes objects of the type {_short(node['type'])}")
        for name in json.loads(node["context"] or "null") or []:
            _check_name(str(name))
        waiting += node["children_spec"]


# --- texts that torch evaluates -------------------------------------------------------------------------------------

_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_SYMPY = "Symbol Integer Rational Float Add Mul Pow Min Max Abs Eq Ne Lt Le Gt Ge And Or Not floor ceiling Piecewise"
_SYMPY += " Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan"
_TORCH = "FloorDiv ModularIndexing Where PythonMod Mod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural"
_TORCH += " FloatPow FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt"
_TORCH += " RoundDecimal ToFloat Identity"
_FUNCTIONS = frozenset((_SYMPY + " " + _TORCH).split())
_OPERATIONS = (ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.expr_context)
_OPERATIONS += (ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.keyword, ast.Subscript, ast.Tuple)
_POWER = re.compile(r"Pow|Shift")
_LONGEST = 2000
"""Characters: what is evaluated must end soon as well, hence also few powers, and those small."""


def _check_expression(text: str) -> None:
    """Arithmetic of sizes, and the sizes of inputs: no attribute but these, no function but those known."""
    if (
        len(text) > _LONGEST
        or len(_POWER.findall(text)) > 4
        or not all(map(_is_harmless, ast.walk(ast.parse(text.strip(), mode="eval"))))
    ):
        raise _Refused(f"it evaluates {_short(text)}")


def _is_harmless(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(name), keywords=keywords):
            small = not _POWER.search(name) or _is_small(node.args)
            return name in _FUNCTIONS and small and all(each.arg is not None for each in keywords)
        case ast.Call(func=ast.Attribute(attr=name), args=[], keywords=[]):
            return name in ("size", "stride", "storage_offset")
        case ast.Attribute(attr=name):
            return name in ("size", "stride", "storage_offset", "shape")
        case ast.Name(name):
            return name in _FUNCTIONS or _SYMBOL.fullmatch(name) is not None
        case ast.Constant(bool() | None):
            return True
        case ast.Constant(int() | float() as number):
            return abs(number) < 2**64
        case ast.Constant(str() as name):
            return _NAME.fullmatch(name) is not None and "__" not in name
    return isinstance(node, _OPERATIONS) and not isinstance(node, ast.Pow)


def _is_small(arguments: list[ast.expr]) -> bool:
    """Whether the second argument, an exponent or a shift, is a number below 10."""
    return len(arguments) == 2 and re.fullmatch(r"(Integer\()?-?\d\)?", ast.unparse(arguments[1])) is not None


_CHECKS = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_expression,
    "guards_code": _check_expression,
    "in_spec": _check_structure,
    "out_spec": _check_structure,
    "nn_module_stack": _check_stack,
    "as_string": lambda text: None,  # reaches an operator as it stands, and source code by repr alone
}
_CHECKS["as_strings"] = _CHECKS["as_string"]


def _short(text: object) -> str:
    return repr(text if len(str(text)) <= 60 else f"{str(text)[:60]}...")
