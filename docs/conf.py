"""How the documentation is built: `make docs`."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import settings_page

import nstyle

project, author, copyright = "nstyle", "the nstyle contributors", "2026, the nstyle contributors"
version = release = nstyle.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "nstyle"
html_theme_options = {"source_edit_link": None, "top_of_page_buttons": []}
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["nstyle.css"]

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
nb_execution_mode = "cache"
nb_execution_in_temp = True  # what a notebook writes is not there at the next build
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
nitpicky = False


def plain(_app, _what, _name, _object, _options, lines):
    """Our docstrings are prose with code in backquotes and bold words: no other mark is markup."""
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    mark = r"(?<!\*)\*(?!\*)|\||(?<=\w)_(?=\W|$)"
    parts[::2] = [re.sub(mark, r"\\\g<0>", part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def setup(app):
    """Writes the pages that are made from the code, and lets docstrings be prose."""
    (Path(__file__).parent / "settings.md").write_text(settings_page.page())
    app.connect("autodoc-process-docstring", plain, priority=1)
