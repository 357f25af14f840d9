"""What the modules for other libraries say where those are absent."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("library", "name", "packages"),
    [("lightning", "Lightning", "lightning"), ("transformers", "Transformers", "transformers accelerate")],
)
def test_an_absent_library_is_one_line_that_says_how_to_install_it(
    library: str, name: str, packages: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in [library, *(loaded for loaded in sys.modules if loaded.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, each, None)  # Python's own way to say that there is no such module
    for each in [loaded for loaded in sys.modules if loaded.startswith("layerprune.library.integrations")]:
        monkeypatch.delitem(sys.modules, each)
    importlib.import_module("layerprune.library.integrations")
    with pytest.raises(ImportError) as raised:
        importlib.import_module(f"layerprune.library.integrations.{library}")
    assert str(raised.value) == f"{name} is not installed: pip install {packages}"
    assert raised.value.__suppress_context__
