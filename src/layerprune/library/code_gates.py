"""Gates in a forward method's own code, for sections whose branch does not end in a module.

A copy of the method, for this module alone, wraps the operand of the addition in a call; every other line is unchanged.
The method is read from its source.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from layerprune.library.recording import Site

GATES = "_layerprune_gates"
_TURNS = "_layerprune_turns"
_GATE = "_layerprune_gate"


@dataclass(frozen=True)
class Wrap:
    """One operand of an addition: its position in the code, and which operand."""

    site: Site
    operand: int
    """0 or 1, of the arguments that the operation got."""
    element: int | None = None
    """Of a literal list that is summed up."""
    in_function: bool = False
    """Whether the addition is in a function that a method calls."""

    @property
    def code(self) -> CodeType:
        """The method's."""
        return self.site.caller[0] if self.in_function else self.site.code

    @property
    def place(self) -> tuple:
        """What has to be changed in the method: an operand, or the call of a function with one."""
        place = self.site.code, self.site.place, self.operand, self.element
        return (*place, *(self.site.caller if self.in_function else ()))


def method_of(module: nn.Module, code: CodeType) -> str | None:
    """The name of the method of a module's class that code belongs to; None where it has none."""
    for kind in type(module).__mro__:
        for name, value in vars(kind).items():
            is_used = isinstance(value, FunctionType) and getattr(type(module), name, None) is value
            if is_used and name != "__init__" and _chain(value, code):
                return name
    return None


def _chain(function: FunctionType, code: CodeType, seen: tuple[FunctionType, ...] = ()) -> list[FunctionType] | None:
    """From a function through its decorators to the one with that code, or code with that within."""
    if _contains(function.__code__, code):
        return [function]
    for held in _held(function):
        rest = _chain(held, code, (*seen, function)) if held not in (*seen, function) else None
        if rest is not None:
            return [function, *rest]
    return None


def _held(function: FunctionType) -> list[FunctionType]:
    """Functions that a decorator has made it of."""
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    of_class = getattr(function, "__module__", None)
    return [each for each in cells if isinstance(each, FunctionType) and each.__module__ == of_class]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _contains(outer: CodeType, code: CodeType) -> bool:
    return outer is code or any(_contains(each, code) for each in outer.co_consts if isinstance(each, CodeType))


def gated_method(module: nn.Module, name: str, wraps: list[tuple[int, Wrap]]) -> MethodType:
    """The method of a module with numbered operands wrapped; `module._layerprune_gates` says what they become.

    Raises LookupError where the source, or an operand in it, cannot be found.
    """
    method = getattr(type(module), name)
    *decorators, inner = _chain(method, wraps[0][1].code)
    made = _changed(inner, wraps)
    for decorator in reversed(decorators):
        made, inner = _redecorated(decorator, inner, made), decorator
    made._is_gated = True
    return MethodType(made, module)


def _redecorated(decorator: FunctionType, inner: FunctionType, changed: FunctionType) -> FunctionType:
    """A decorator's function around a changed one."""
    cells = decorator.__closure__ or ()
    replaced = [_cell(changed) if _is_filled(cell) and cell.cell_contents is inner else cell for cell in cells]
    names = decorator.__code__, decorator.__globals__, decorator.__name__, decorator.__defaults__
    made = FunctionType(*names, tuple(replaced))
    made.__kwdefaults__ = decorator.__kwdefaults__
    vars(made).update(vars(decorator))
    return made


def _cell(value: Any) -> Any:
    return (lambda: value).__closure__[0]


def _changed(function: FunctionType, wraps: list[tuple[int, Wrap]]) -> FunctionType:
    tree = _parsed(function.__code__)
    arguments = [*tree.args.posonlyargs, *tree.args.args]
    if not arguments:
        raise LookupError("the method has no arguments")
    owner = arguments[0].arg
    for number, wrap in dict(wraps).items():
        if wrap.in_function:
            _redirect(tree, wrap, lambda called, number=number: _asked(owner, "function", number, called))
        else:
            asked = "at" if wrap.site.code is function.__code__ else "within"
            _Wrapping(wrap, lambda operand, number=number, asked=asked: _asked(owner, asked, number, operand)).apply(
                tree
            )
    turns = ast.parse(f"{_TURNS} = [0] * {1 + max(dict(wraps))}").body[0]
    tree.body.insert(1 if ast.get_docstring(tree) is not None else 0, turns)
    tree.decorator_list = []
    free = function.__code__.co_freevars
    made = _compiled(tree, free, function.__code__)
    code = next(each for each in _codes(made) if each.co_name == function.__code__.co_name)
    cells = dict(zip(free, function.__closure__ or (), strict=True))
    changed = FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(cells[each] for each in code.co_freevars),
    )
    changed.__kwdefaults__, changed.__qualname__ = function.__kwdefaults__, function.__qualname__
    changed.__annotations__, changed.__doc__ = function.__annotations__, function.__doc__
    return changed


def gated_function(wrap: Wrap) -> Callable[[FunctionType, Callable], FunctionType]:
    """What makes, of a function and of what its operand becomes, the function with that operand wrapped.

    Raises LookupError where the source, or the operand in it, cannot be found.
    """
    code = wrap.site.code
    tree = _parsed(code)
    _Wrapping(
        wrap, lambda operand: ast.copy_location(ast.Call(ast.Name(_GATE, ast.Load()), [operand], []), operand)
    ).apply(tree)
    tree.decorator_list = []
    made = _compiled(tree, (*code.co_freevars, _GATE), code)
    changed = next(each for each in _codes(made) if each.co_name == code.co_name)

    def gated(function: FunctionType | MethodType, gate: Callable) -> FunctionType | MethodType:
        if getattr(function, "__code__", None) is not code:
            return function
        if isinstance(function, MethodType):  # super().forward, or that of a helper object
            return MethodType(gated(function.__func__, gate), function.__self__)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True)) | {_GATE: _cell(gate)}
        names = function.__globals__, function.__name__, function.__defaults__
        result = FunctionType(changed, *names, tuple(cells[each] for each in changed.co_freevars))
        result.__kwdefaults__ = function.__kwdefaults__
        return result

    return gated


def _asked(owner: str, name: str, number: int, value: ast.expr) -> ast.expr:
    """`owner._layerprune_gates.name(number, turns, value)`"""
    gates = ast.Attribute(ast.Name(owner, ast.Load()), GATES, ast.Load())
    arguments = [ast.Constant(number), ast.Name(_TURNS, ast.Load()), value]
    return ast.copy_location(ast.Call(ast.Attribute(gates, name, ast.Load()), arguments, []), value)


def _redirect(tree: ast.FunctionDef, wrap: Wrap, made: Callable[[ast.expr], ast.expr]) -> None:
    """Another function in the place of the called one."""
    code, place = wrap.site.caller
    position = list(code.co_positions())[place // 2]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _position(node) == position:
            node.func = made(node.func)
            return
    raise LookupError("the call to the function that adds cannot be found in the source")


def _position(node: ast.AST) -> tuple[int, int, int, int]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _parsed(code: CodeType) -> ast.FunctionDef:
    """The function's definition with the positions that it has in its file."""
    try:
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError):
        raise LookupError("the source of the method cannot be read") from None
    text = "".join(lines)
    shift = len(lines[0]) - len(lines[0].lstrip())
    try:
        tree = ast.parse(textwrap.dedent(text)).body[0]
    except SyntaxError:
        raise LookupError("the source of the method cannot be read") from None
    if not isinstance(tree, ast.FunctionDef):
        raise LookupError("the method is not a plain function")
    for node in ast.walk(tree):
        if hasattr(node, "col_offset"):
            node.col_offset += shift
            node.end_col_offset += shift
    ast.increment_lineno(tree, first - 1)
    return tree


def _compiled(tree: ast.FunctionDef, free: tuple[str, ...], code: CodeType) -> CodeType:
    """Compiled within a function that has the free variables, and a class of the same name for private names."""
    around = ast.parse(f"def _around({', '.join(free)}):\n    pass").body[0]
    around.body = [tree]
    _mangle(tree, code.co_qualname.rpartition(".")[0].rpartition(".")[2])
    module = ast.fix_missing_locations(ast.Module([around], []))
    return compile(module, code.co_filename, "exec", flags=code.co_flags & 0x1000000, dont_inherit=True)


def _mangle(tree: ast.AST, owner: str) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("__") and not node.attr.endswith("__"):
            node.attr = f"_{owner.lstrip('_')}{node.attr}"


def _codes(code: CodeType) -> list[CodeType]:
    nested = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [*nested, *(one for each in nested for one in _codes(each))]


class _Wrapping:
    """Wraps one operand, found by the position of the operation in the source."""

    def __init__(self, wrap: Wrap, call: Callable[[ast.expr], ast.expr]) -> None:
        self.wrap, self._call = wrap, call
        positions = list(wrap.site.code.co_positions())
        self.position = positions[wrap.site.place // 2]

    def apply(self, tree: ast.FunctionDef) -> None:
        for node in ast.walk(tree):
            if self._is_here(node):
                if isinstance(node, ast.BinOp):
                    self._wrap_operand(node)
                    return
                if isinstance(node, ast.AugAssign):
                    self._wrap_assigned(tree, node)
                    return
                if isinstance(node, ast.Call):
                    self._wrap_argument(node)
                    return
        raise LookupError("the addition cannot be found in the source")

    def _is_here(self, node: ast.AST) -> bool:
        if not isinstance(node, ast.BinOp | ast.AugAssign | ast.Call):
            return False
        return _position(node) == self.position

    def _wrap_operand(self, node: ast.BinOp) -> None:
        if self.wrap.operand == 0:
            node.left = self._call(node.left)
        else:
            node.right = self._call(node.right)

    def _wrap_assigned(self, tree: ast.FunctionDef, node: ast.AugAssign) -> None:
        if self.wrap.operand == 1:
            node.value = self._call(node.value)
            return
        if not isinstance(node.target, ast.Name):
            raise LookupError("the sum is not a plain variable")
        before = ast.Assign([ast.Name(node.target.id, ast.Store())], self._call(ast.Name(node.target.id, ast.Load())))
        for outer in ast.walk(tree):
            for name in ("body", "orelse", "finalbody"):
                statements = getattr(outer, name, None)
                if isinstance(statements, list) and node in statements:
                    statements.insert(statements.index(node), ast.copy_location(before, node))
                    return

    def _wrap_argument(self, node: ast.Call) -> None:
        arguments = node.args
        if isinstance(node.func, ast.Name) and node.func.id == "sum" and isinstance(node.args[0], ast.List | ast.Tuple):
            arguments, place = node.args[0].elts, self.wrap.element
        else:
            place = self.wrap.operand
            if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
                if place == 0:
                    node.func.value = self._call(node.func.value)
                    return
                place -= 1
        if place is None or place >= len(arguments) or isinstance(arguments[place], ast.Starred):
            raise LookupError("the operand of the addition cannot be found in the source")
        arguments[place] = self._call(arguments[place])


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("torch", "operator")
