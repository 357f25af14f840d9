"""The floors of docs/architecture.md, read from the syntax trees: who may import whom, and who may know what."""

import ast
import inspect
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import layerprune
from layerprune.core import methods

PACKAGE = Path(layerprune.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = ("errors", "system", "core", "library", "suite", "analysis", "cli")
"""Lowest first: a floor imports those before it, and never one behind it."""
NEVER = {"analysis": "library"}
"""What a floor does not import although it lies below."""
TORCH_FREE = [*(f"core/{name}.py" for name in ("version", "methods/__init__", "networks/__init__", "data/catalog"))]
TORCH_FREE += [*(f"suite/{name}.py" for name in ("record", "config/__init__"))]
TORCH_FREE += [f"system/{name}.py" for name in ("paths", "files", "cpu", "processes")]
FILE_NAMES = {"record.json", "curves.csv", "arch.json", "weights.safetensors", "state.pt", "runs.csv", "summary.csv"}
READ_THE_ENVIRONMENT = (
    "suite/config/reading.py",
    "suite/config/nodes.py",
    "system/processes.py",
    "system/paths.py",
    "system/cpu.py",
)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def modules_by_name() -> dict[str, Path]:
    names = {path: name_of(path).removesuffix(".py").removesuffix("/__init__") for path in MODULES}
    return {f"layerprune.{name.replace('/', '.')}": path for path, name in names.items() if name != "__init__"}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports_of(path: Path, *forbidden: str) -> list[str]:
    return [name for name in imports(path) if any(name == each or name.startswith(f"{each}.") for each in forbidden)]


def own_imports(path: Path) -> set[Path]:
    """The package's files that a file imports; of a name and the package that holds it, the name's file."""
    known = modules_by_name()
    named = imports(path) & known.keys()
    packages = {name for name in named if known[name].name == "__init__.py"}
    through = {name for name in packages if any(other.startswith(f"{name}.") for other in named)}
    return {known[name] for name in named - through}


def modules(*folders: str) -> list[Path]:
    return [path for path in MODULES if name_of(path).startswith(folders)]


def floor_of(path: Path) -> str:
    return name_of(path).split("/")[0].removesuffix(".py")


def texts(path: Path) -> set[str]:
    """String constants of a file that are no docstrings."""
    nodes = list(ast.walk(tree(path)))
    docs = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    strings = (node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {node.value for node in strings if id(node) not in docs}


# --- floors -----------------------------------------------------------------------------------------------------


def test_every_module_lies_on_a_floor() -> None:
    loose = {floor_of(path) for path in MODULES} - {*FLOORS, "__init__", "__main__"}
    assert loose == set()


@pytest.mark.parametrize("path", [path for path in MODULES if floor_of(path) in FLOORS], ids=name_of)
def test_a_floor_imports_only_what_lies_below(path: Path) -> None:
    floor = floor_of(path)
    above = [*FLOORS[FLOORS.index(floor) + 1 :], NEVER.get(floor, "nothing")]
    assert imports_of(path, *(f"layerprune.{name}" for name in above)) == []


def folders_of(path: Path) -> str:
    return name_of(path).rpartition("/")[0]


def folder_imports(top: str) -> dict[str, set[str]]:
    """Folder directly below `top` -> those beside it that its files import, at any depth."""

    def room(path: Path) -> str | None:
        inside = name_of(path).removeprefix(f"{top}/") if top else name_of(path)
        return inside.split("/")[0] if "/" in inside else None

    graph: dict[str, set[str]] = {}
    for path in modules(f"{top}/" if top else ""):
        if (own := room(path)) is not None:
            others = {room(each) for each in own_imports(path) if each in modules(f"{top}/" if top else "")}
            graph.setdefault(own, set()).update(others - {own, None})
    return graph


@pytest.mark.parametrize("top", sorted({folders_of(path) for path in MODULES}))
def test_no_folders_import_each_other(top: str) -> None:
    try:
        TopologicalSorter(folder_imports(top)).prepare()
    except CycleError as error:
        pytest.fail(f"below {top or 'the package'}: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", modules("analysis/"), ids=name_of)
def test_analysis_needs_no_torch(path: Path) -> None:
    """Neither itself nor by way of what it imports."""
    assert {name_of(each) for each in {path, *reached(path)} if imports_torch(each)} == set()


def reached(path: Path) -> set[Path]:
    found, queue = set(), [path]
    while queue:
        for each in at_import(queue.pop()) - found:
            found.add(each)
            queue.append(each)
    return found


def imports_at_the_top(path: Path) -> set[str]:
    """What a module imports when it is imported itself."""
    names: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def imports_torch(path: Path) -> bool:
    return any(name.split(".")[0] in ("torch", "torchvision") for name in imports_at_the_top(path))


@cache
def at_import(path: Path) -> frozenset[Path]:
    """The package's files that a module imports when it is imported itself, and the packages on the way."""
    names, known = imports_at_the_top(path), modules_by_name()
    parents = {name.rsplit(".", count)[0] for name in names for count in range(1, name.count("."))}
    return frozenset(known[name] for name in {*names, *parents} & known.keys())


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_everyone_imports_is_free_of_torch(name: str) -> None:
    assert {name_of(each) for each in {PACKAGE / name, *reached(PACKAGE / name)} if imports_torch(each)} == set()


# --- who may know what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", modules("core/methods/"), ids=name_of)
def test_methods_name_no_architecture(path: Path) -> None:
    assert imports_of(path, "layerprune.core.networks.archs", "layerprune.core.networks.build") == []


def test_the_loop_knows_no_method_by_name() -> None:
    loop = PACKAGE / "core" / "training" / "loop.py"
    assert texts(loop) & set(methods.families()) == set()
    assert imports_of(loop, *(f"layerprune.core.methods.{family}" for family in methods.FAMILIES)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_configuration_reads_yaml_and_the_environment(path: Path) -> None:
    if name_of(path) in READ_THE_ENVIRONMENT:
        return
    assert imports_of(path, "yaml", "ruamel") == []
    nodes = ast.walk(tree(path))
    assert [node for node in nodes if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_paths_spells_the_names_of_result_files(path: Path) -> None:
    if name_of(path) != "system/paths.py":
        assert texts(path) & FILE_NAMES == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=name_of)
def test_every_module_says_what_it_promises(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or name_of(path) == "__main__.py"


@pytest.mark.parametrize("name", [name for name in layerprune.__all__ if callable(getattr(layerprune, name))])
def test_every_public_argument_is_described(name: str) -> None:
    public = getattr(layerprune, name)
    callables = [public, *(value for key, value in vars(public).items() if not key.startswith("_") and callable(value))]
    for each in callables:
        described = set(re.findall(r"\w+", inspect.getdoc(each) or ""))
        assert set(inspect.signature(each).parameters) - {"self"} <= described, each


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_function_is_longer_than_sixty_lines(path: Path) -> None:
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 60] == []
