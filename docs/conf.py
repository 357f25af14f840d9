"""The documentation as a site: `make docs` builds it into site/. Nothing in it is loaded from a network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE / "_extensions")]

import layerprune  # noqa: E402 -- the code beside this folder, installed or not

project = "layerprune"
author = "the authors of layerprune"
release = layerprune.__version__

extensions = ["sphinx.ext.autodoc", "sphinxcontrib.typer", "myst_nb"]
extensions += ["mathml", "plain_docstrings", "links", "from_source", "pictures", "outside_links"]
exclude_patterns = ["_extensions"]
nitpicky = True

# Types of other projects: their documentation lies elsewhere, and a build asks no network for it.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(torch|nn|np|numpy|pandas|matplotlib|lightning|transformers|pydantic|pathlib|collections|types|typing|annotated_types)(\..*)?",
    ),
    (
        "py:.*",
        r"layerprune\.(system|core\.settings|suite\.config|library\.(recording|residuals|what_goes|passages|gates|rewriting))\..*|.*\._\w+",
    ),  # named in signatures, not public
    (
        "py:.*",
        r"(Tensor|Module|Parameter|Optimizer|Generator|Figure|DataFrame|Path|Any|Sequence|Literal|Final|Protocol)",
    ),
]

# --- Markdown, equations, the notebook ---------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https"]
html_math_renderer = "mathml"
nb_execution_mode = "off"  # the notebook's stored outputs are shown; a test executes it anew
nb_ipywidgets_js = {}

# --- Python ------------------------------------------------------------------------------------------------------

highlight_language = "none"  # of blocks that name no language, such as those of docstrings
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # torch's are written in another style
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"

# --- the site ----------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"layerprune {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
linkcheck_timeout = 15
