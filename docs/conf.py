"""Sphinx builds these pages with `make docs`; a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from pygments.lexers import TextLexer
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

sys.path.insert(0, str(Path(__file__).parent))

from fields import fields_as_markdown

from cxr_lightning import __version__

project = "cxr_lightning"
author = "The cxr_lightning authors"
project_copyright = author
release = version = __version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["images/**"]
nitpicky = True
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "cxr_lightning"
html_copy_source = False
html_show_sphinx = False
# Nothing is fetched from elsewhere when a page is read: formulas are MathML.
html_math_renderer = "mathml"
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Sphinx) -> None:
    """Register formulas without JavaScript, and the page that the schema writes."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.add_lexer("sh", TextLexer)  # that of shells paints some words of KEY=VALUE and not others
    app.connect("source-read", _fill)


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _display(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _fill(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "reference/configuration":
        source[0] = source[0].replace("<!-- fields -->", fields_as_markdown())
