"""Configuration of the documentation site: ``make docs``."""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

import pymc_marginal_lmm

HERE = Path(__file__).parent

project = "pymc-marginal-lmm"
author = "the authors of pymc-marginal-lmm"
version = release = pymc_marginal_lmm.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx-mathjax-offline",  # formulas are rendered without the network
]
exclude_patterns = ["_build"]

# Every link to a page, a heading or an object of this package must lead somewhere. Objects of
# others would need their inventories, and so the network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!pymc_marginal_lmm\b).*")]
linkcheck_timeout = 20

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are shown with the outputs that `make notebooks` has stored in them.
nb_execution_mode = "off"
nb_merge_streams = True

autosummary_generate = False
numpydoc_show_class_members = False
# The first sentence of a dataclass is its documentation, its fields are in its docstring.
autodoc_default_options = {"undoc-members": False}
autodoc_typehints = "none"
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = "pymc-marginal-lmm"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 2,
    "header_links_before_dropdown": 7,
    "footer_start": [],
    "footer_end": [],
}
# Pages without others below them.
html_sidebars = {name: [] for name in ("index", "install", "api", "theory")}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def _fetch_notebooks() -> None:
    """Copy the notebooks to where Sphinx finds them; files that did not change stay untouched."""
    target = HERE / "notebooks"
    target.mkdir(exist_ok=True)
    names = set()
    for path in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        names.add(path.name)
        copy = target / path.name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copy)
    for path in target.glob("*.ipynb"):
        if path.name not in names:
            path.unlink()


_fetch_notebooks()


NO_PAPER = "There are none in this copy of the site yet: run that command, then `make docs`."


def _put_paper(app: Sphinx, name: str, content: list[str]) -> None:
    """List the tables of the paper, which a command of its own writes, if they are there."""
    if name == "paper":
        pages = sorted(path.stem for path in (HERE / "paper").glob("*.md"))
        pages.sort(key=lambda page: (not page.startswith("table"), not page.startswith("figure")))
        entries = "\n".join(f"paper/{page}" for page in pages)
        listing = f"```{{toctree}}\n:maxdepth: 2\n\n{entries}\n```"
        content[0] = content[0].replace("<!-- tables -->", listing if pages else NO_PAPER)


def setup(app: Sphinx) -> None:
    """Register what this site adds to Sphinx."""
    app.connect("source-read", _put_paper)
