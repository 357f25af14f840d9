"""Directions of DESIGN section 4, read from the syntax trees: who may import whom, and who may know what."""

import ast
import shutil
from pathlib import Path

import pytest

import layerprune
from layerprune import methods, provenance

PACKAGE = Path(layerprune.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
TORCH_FREE = [
    *(f"config/{name}.py" for name in ("__init__", "basics", "methods", "preset", "reading", "runs", "training"))
]
TORCH_FREE += ["paths.py", "record.py", "provenance.py", "files.py", "errors.py", "cpu_kernels.py", "preemption.py"]
TORCH_FREE += ["methods/__init__.py", "data/catalog.py"]
FILE_NAMES = {"record.json", "curves.csv", "arch.json", "weights.pt", "state.pt", "runs.csv", "summary.csv"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


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


def modules(*folders: str) -> list[Path]:
    return [path for path in MODULES if name_of(path).startswith(folders)]


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


@pytest.mark.parametrize("path", modules("analysis/"), ids=name_of)
def test_analysis_needs_neither_torch_nor_training(path: Path) -> None:
    forbidden = [f"layerprune.{name}" for name in ("models", "training", "gates", "measure", "execute", "runner")]
    forbidden += [f"layerprune.methods.{family}" for family in (*methods.FAMILIES, "base")]
    assert imports_of(path, "torch", "torchvision", *forbidden) == []


@pytest.mark.parametrize("name", TORCH_FREE)
def test_the_core_that_everyone_imports_is_free_of_torch(name: str) -> None:
    assert imports_of(PACKAGE / name, "torch", "torchvision") == []


@pytest.mark.parametrize("path", modules("methods/"), ids=name_of)
def test_methods_name_no_architecture(path: Path) -> None:
    assert imports_of(path, "layerprune.models.archs", "layerprune.models.build") == []


@pytest.mark.parametrize("path", modules("models/", "gates/", "data/"), ids=name_of)
def test_what_lies_below_knows_nothing_of_methods_and_training(path: Path) -> None:
    below = ["methods", "training", "execute", "runner", "analysis"]
    assert imports_of(path, *(f"layerprune.{name}" for name in below)) == []


def test_the_loop_knows_no_method_by_name() -> None:
    loop = PACKAGE / "training" / "loop.py"
    assert texts(loop) & set(methods.families()) == set()
    assert imports_of(loop, *(f"layerprune.methods.{family}" for family in methods.FAMILIES)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_configuration_reads_yaml_and_the_environment(path: Path) -> None:
    if name_of(path) in ("config/reading.py", "cpu_kernels.py"):  # the latter writes what torch will read
        return
    assert imports_of(path, "yaml") == []
    reads = [
        node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    if reads:  # where all files lie is a matter of paths
        assert name_of(path) == "paths.py"
        assert {text for text in texts(path) if text.isupper()} == {"LAYERPRUNE_ROOT"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_paths_spells_the_names_of_result_files(path: Path) -> None:
    if name_of(path) != "paths.py":
        assert texts(path) & FILE_NAMES == set()


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=name_of)
def test_every_module_says_what_it_promises(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or name_of(path) == "__main__.py"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_function_is_longer_than_sixty_lines(path: Path) -> None:
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if node.end_lineno - node.lineno >= 60] == []


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose source the digest reads."""
    folder = tmp_path / "layerprune"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    monkeypatch.setattr(provenance, "_PACKAGE", folder)
    return folder


def digest(method: str = "gated", arch: str = "mlp-residual-20", dataset: str = "mnist") -> str:
    provenance._tree_digest.cache_clear()
    provenance._imports.cache_clear()
    return provenance.source_digest(dataset, arch, method)


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_leave_the_source_digest_alone(copied: Path) -> None:
    before = digest()
    path = copied / "methods" / "trained" / "gated.py"
    path.write_text('"""Another docstring."""\n# a comment\n' + path.read_text().partition('"""\n')[2])
    replace_in(copied / "training" / "loop.py", "import math\n", "\n\nimport math  # for isfinite\n")
    assert digest() == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("methods/trained/gated.py", ">= 0.5", "> 0.5"),
        ("training/loop.py", "losses.sum()", "losses.mean()"),
        ("ranks.py", "losses.mean()", "losses.sum()"),
        ("models/archs/mlp_residual.py", "WIDTH = 100", "WIDTH = 101"),
        ("gates/estimators.py", ".mean(0)", ".sum(0)"),
    ],
)
def test_a_changed_statement_changes_the_source_digest(copied: Path, file: str, old: str, new: str) -> None:
    before = digest()
    replace_in(copied / file, old, new)
    assert digest() != before


@pytest.mark.parametrize(
    ("file", "dataset", "arch"),
    [
        ("data/formats/cifar.py", "cifar10", "lenet5"),
        ("data/formats/tar.py", "cifar100", "lenet5"),
        ("models/parts/zero_pad_shortcut.py", "mnist", "resnet-20"),
    ],
)
def test_a_part_counts_for_those_who_import_it_alone(copied: Path, file: str, dataset: str, arch: str) -> None:
    concerned, others = digest(arch=arch, dataset=dataset), digest()
    (copied / file).write_text((copied / file).read_text() + "\nADDED = 1\n")
    assert digest(arch=arch, dataset=dataset) != concerned
    assert digest() == others


@pytest.mark.parametrize("file", ["methods/trained/sss.py", "models/archs/lenet5.py", "data/digits.py", "cli.py"])
def test_a_change_to_somebody_elses_file_leaves_a_run_up_to_date(copied: Path, file: str) -> None:
    before = digest()
    (copied / file).write_text((copied / file).read_text() + "\nADDED = 1\n")
    assert digest() == before
