"""Where results come from: digests of source, lock file and checkout. Imports no torch.

The source digest covers the modules that decide a run's numbers: execution, everything under training/, measure/,
gates/ and the shared parts of data/, models/ and methods/, plus the one file of the run's dataset, architecture family
and method, with what these import from the folders that only some of them need. It reads the syntax tree without
docstrings, so comments, formatting and other people's methods never make a record stale.
"""

import ast
import hashlib
import subprocess
from functools import cache
from pathlib import Path

from layerprune import methods, paths

_PACKAGE = Path(__file__).parent
_SHARED = (
    "seeding.py",
    "ranks.py",
    "execute.py",
    "training/*.py",
    "measure/*.py",
    "gates/*.py",
    "data/*.py",
    "models/*.py",
)
_NEEDED_BY_SOME = ("data/formats", "data/streams", "models/parts", "methods/parts")
_NOT_SCIENCE = {"__init__.py", "catalog.py", "registry.py", "staging.py", "saving.py", "state.py"}


def source_digest(dataset: str, arch: str, method: str) -> str:
    """Digest of the code behind a run (first 16 hexadecimal digits)."""
    combined = hashlib.sha256()
    for path in _science_files(dataset, arch, method):
        combined.update(f"{path.relative_to(_PACKAGE).as_posix()}\n{_tree_digest(path)}\n".encode())
    return combined.hexdigest()[:16]


def _science_files(dataset: str, arch: str, method: str) -> list[Path]:
    shared = [path for pattern in _SHARED for path in sorted(_PACKAGE.glob(pattern)) if _counts(path, dataset)]
    family = methods.families().get(method, "trained")
    own = [
        *sorted((_PACKAGE / "methods" / family).glob("_*.py")),
        _PACKAGE / "methods" / "base.py",
        _PACKAGE / "methods" / family / f"{method.replace('-', '_')}.py",
        arch_file(arch),
    ]
    own += _imported_parts([_PACKAGE / "data" / f"{dataset.replace('-', '_')}.py", *own])
    return [path for path in dict.fromkeys([*shared, *own]) if path.name != "__init__.py" and path.is_file()]


def _counts(path: Path, dataset: str) -> bool:
    from layerprune.data.catalog import NAMES

    slug = path.stem.replace("_", "-")
    other_dataset = path.parent.name == "data" and slug in NAMES and slug != dataset
    return path.name not in _NOT_SCIENCE and not other_dataset


def _imported_parts(files: list[Path]) -> list[Path]:
    """Files of _NEEDED_BY_SOME that `files` import, directly or by way of one another, in the order of their names."""
    found: set[Path] = set()
    queue = [file for file in files if file.is_file()]
    while queue:
        new = {part for part in _imports(queue.pop()) if part not in found}
        found |= new
        queue += new
    return sorted(found)


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """The files of _NEEDED_BY_SOME that a module names in its import statements."""
    dotted = []
    for statement in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            dotted += [statement.module, *(f"{statement.module}.{each.name}" for each in statement.names)]
        elif isinstance(statement, ast.Import):
            dotted += [each.name for each in statement.names]
    files = [_PACKAGE.parent / f"{name.replace('.', '/')}.py" for name in dotted]
    homes = [_PACKAGE / folder for folder in _NEEDED_BY_SOME]
    return tuple(file for file in files if file.parent in homes and file.is_file())


def arch_file(arch: str) -> Path:
    """The file of an architecture: its slug, without the number of sections where it carries one."""
    folder = _PACKAGE / "models" / "archs"
    exact = folder / f"{arch.replace('-', '_')}.py"
    return exact if exact.is_file() else folder / f"{arch.rpartition('-')[0].replace('-', '_')}.py"


def known_archs() -> list[str]:
    """Slugs of the architectures; mlp-residual takes -<sections>."""
    folder = _PACKAGE / "models" / "archs"
    return sorted(file.stem.replace("_", "-") for file in folder.glob("[!_]*.py"))


@cache
def _tree_digest(path: Path) -> str:
    return hashlib.sha256(_canonical(ast.parse(path.read_bytes())).encode()).hexdigest()


def _canonical(node: object) -> str:
    """A syntax tree as text: no positions, no docstrings, no empty fields (which differ between Pythons)."""
    if isinstance(node, list):
        return "[" + ",".join(map(_canonical, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):
            value = [statement for statement in value if not _is_text(statement)]
        if value is not None and value != []:
            fields.append(f"{name}={_canonical(value)}")
    return f"{type(node).__name__}({','.join(fields)})"


def _is_text(statement: ast.AST) -> bool:
    """A bare string: a docstring of a module, class, function or constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def lock_digest() -> str | None:
    """Digest of requirements.lock, None where there is none."""
    path = paths.root() / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def commit() -> str | None:
    """Commit of the checkout that holds the code, None outside a checkout."""
    return _git("rev-parse", "HEAD") or None


def dirty_digest() -> str | None:
    """Digest of the uncommitted change to the code and its configuration, None when there is none."""
    change = _git("diff", "HEAD", "--", "src", "config", "requirements.lock")
    return hashlib.sha256(change.encode()).hexdigest()[:16] if change else None


def _git(*words: str) -> str:
    top = _PACKAGE.parent.parent
    try:
        done = subprocess.run(["git", "-C", str(top), *words], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
