"""What the modules for other libraries say where those are absent."""

import sys

import pytest
from conftest import run_process

WITHOUT = """
import sys
sys.modules["{library}"] = None  # Python's own way to say that there is no such module
import layerprune.library.integrations
import layerprune.library.integrations.{library}
"""


@pytest.mark.parametrize(
    ("library", "name", "packages"),
    [("lightning", "Lightning", "lightning"), ("transformers", "Transformers", "transformers accelerate")],
)
def test_an_absent_library_is_one_line_that_says_how_to_install_it(library: str, name: str, packages: str) -> None:
    done = run_process([sys.executable, "-c", WITHOUT.format(library=library)])
    assert done.code == 1
    assert done.stderr.strip().splitlines()[-1] == f"ImportError: {name} is not installed: pip install {packages}"
