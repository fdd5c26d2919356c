"""How `make docs` builds the pages. Its sources are the whole repository, so links also hold on a code host."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build/gallery"  # where the scripts run: their recordings stay here
sys.path.insert(0, str(ROOT / "docs"))
os.environ.setdefault("ATMVIZ_CACHE", str(WORK / "cache"))

from builder import gallery  # noqa: E402

project = "atmviz"
author = "The atmviz authors"
release = version = version_of("atmviz")
html_title = "atmviz"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "builder.pages",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "docs/**.rst", "docs/*.ipynb", "*.md", "assets/*/*.md"]
exclude_patterns = [".*", "build", "docs/gallery", "README.md"]
highlight_language = "none"
default_role = "literal"

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_output_stderr = "remove"

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": [str(gallery.copied_scripts(ROOT / "docs/gallery", WORK))],
    "gallery_dirs": ["docs/generated/gallery"],
    "image_scrapers": ("builder.gallery.scrape",),
    "reset_modules": (),
    "capture_repr": ("_repr_html_", "__repr__"),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 20,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "plot_gallery": True,
}

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {"default_mode": "auto"}
html_sidebars = {"docs/index": []}
html_extra_path = ["builder/index.html"]
html_static_path = ["builder/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copyright = "the atmviz authors"
