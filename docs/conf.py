"""How the pages are built: `make docs`."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]
# For the guides, which run in a temporary folder and call `python`.
os.environ["PYTHONPATH"] = str(ROOT)
os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from kfeedback import __version__  # noqa: E402

project = "kfeedback"
author = "the kfeedback authors"
copyright = "the kfeedback authors, Apache-2.0"
version = release = __version__

# The source is the whole repository, so that a link leads to the same file here and in
# a clone.
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/*/*.md",
    "docs/api/*.rst",
    "applications/results/README.md",
    "applications/results/*/README.md",
    "kfeedback/datasets/sample/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = ["docs/_build"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "public_api",
    "mathml",
]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!kfeedback\.).*")]  # names of Python and Keras

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"
autosummary_generate = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_output_stderr = "remove"
nb_merge_streams = True

html_theme = "furo"
html_title = f"kfeedback {version}"
html_static_path = ["_static"]
html_css_files = ["kfeedback.css"]
html_extra_path = ["_extra"]  # index.html, which leads to docs/index.html
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
