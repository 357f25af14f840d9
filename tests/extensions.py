"""A method, network or data set of a test's own, found as if its file lay in the package."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from layerprune.core import methods, networks, version
from layerprune.core.data import catalog

FINDERS = {"archs": networks, "data": version} | dict.fromkeys(methods.FAMILIES, methods)
"""Folder of the package -> the module that looks for its files, beside itself."""
PACKAGES = {"data": "layerprune.core.data", "archs": "layerprune.core.networks.archs"}
MODULE, SLUG = "tried_out", "tried-out"


@contextmanager
def extended(root: Path, folder: str, text: str) -> Iterator[Path]:
    """Within this context the package's folder has one more file, tried_out.py; yields its path."""
    finder = FINDERS[folder]
    package = import_module(PACKAGES.get(folder, f"layerprune.core.methods.{folder}"))
    for each in (name for name, found_by in FINDERS.items() if found_by is finder):
        (root / "package" / each).mkdir(parents=True)
        for file in (Path(finder.__file__).parent / each).glob("*.py"):
            (root / "package" / each / file.name).symlink_to(file)
    path = root / "package" / folder / f"{MODULE}.py"
    path.write_text(text)
    spec = replace(catalog.DIGITS, name=SLUG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "__file__", str(root / "package" / "__init__.py"))
        patch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
        patch.setattr(catalog, "_FORMS", catalog._FORMS | {SLUG: (spec,)})
        patch.setattr(catalog, "NAMES", (*catalog.NAMES, SLUG))
        methods.families.cache_clear()
        try:
            yield path
        finally:
            sys.modules.pop(f"{package.__name__}.{MODULE}", None)
            vars(package).pop(MODULE, None)
    methods.families.cache_clear()
