"""Configuration of the site: ``sphinx-build -W --keep-going docs docs/_build``. It downloads nothing."""

import sys
from pathlib import Path

import cellular_bench

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "cellular-bench"
author = "The cellular-bench contributors"
project_copyright = "2026, the cellular-bench contributors"
version = release = cellular_bench.__version__

extensions = [
    "command_line",
    "method_cards",
    "suites",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# The tests execute the notebooks, a build does not; -D nb_execution_mode=force shows outputs.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings describe the types
napoleon_google_docstring = False
napoleon_use_ivar = True  # list the fields of a record together
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = f"cellular-bench {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navbar_persistent": [],  # the search field is in the sidebar
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
html_copy_source = False
html_show_sourcelink = False
