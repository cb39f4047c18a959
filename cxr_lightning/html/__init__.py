"""Self-contained pages: tables, figures and pictures in one file, for a screen and for paper."""

from cxr_lightning.html.page import figure_svg, picture_png, render_page, table_html

__all__ = ["figure_svg", "picture_png", "render_page", "table_html"]
