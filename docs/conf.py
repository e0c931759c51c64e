"""Configuration of the documentation site: `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import tightbound

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

WIDE = ("notes", "notes.ko", "recipes", "results", "speed")

project = "tightbound"
author = "the tightbound developers"
release = tightbound.__version__
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "reference_pages",
    "theory_pictures",
    "repository_links",
    "page_language",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext", "images/recipes/README*"]
templates_path = ["_templates"]

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
suppress_warnings = [
    # Pages of decisions begin with a heading of the second level in places.
    "myst.header",
]

smartquotes = False  # `--recipe` in the text of an example keeps its two hyphens

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_preprocess_types = False
napoleon_use_rtype = False

copybutton_exclude = ".linenos, .gp"

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "generated/examples",
    # run as they are, apart from the one that reads an export
    "filename_pattern": r"/(?!decode_without_torch)\w+\.py$",
    "default_thumb_file": str(HERE / "images" / "recipes" / "vae.png"),
    "image_scrapers": ("gallery_pictures.scrape",),
    "within_subsection_order": "FileNameSortKey",
    "plot_gallery": os.environ.get("TIGHTBOUND_SITE_GALLERY", "yes") == "yes",
    "ignore_pattern": r"__init__\.py",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = f"tightbound {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "github_url": "https://github.com/tightbound/tightbound",
    "show_prev_next": True,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "logo": {"text": "tightbound"},
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    # pages of wide tables have the whole width
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        **{key: [] for key in WIDE},
    },
}
html_sidebars = {
    key: [] for key in ("index", "search", "theory", "results-and-speed", *WIDE)
}
copyright = "the tightbound developers, Apache-2.0"
