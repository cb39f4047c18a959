"""One HTML file without links to others: what it shows is inside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from io import BytesIO, StringIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from cxr_lightning.evaluation.plots.style import lay_out

__all__ = ["figure_svg", "picture_png", "render_page", "table_html"]


def render_page(template: str, **values: Any) -> str:
    """Fill a template of `cxr_lightning/html/templates`.

    Text is escaped; what :func:`figure_svg`, :func:`picture_png` and :func:`table_html` return is
    not.
    """
    environment = Environment(
        loader=PackageLoader("cxr_lightning.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = environment.get_template(template).render(**values)
    return text


def figure_svg(figure: Figure, *, alt: str) -> Markup:
    """Return a figure as scalable graphics that are part of the page.

    Identifiers are made from `alt`, so that figures of one page do not use each other's clipping
    paths, and that the same figure gives the same page.
    """
    key = re.sub(r"\W+", "-", alt)
    lay_out(figure)
    text = StringIO()
    # Text stays text: it can be searched, and is smaller than outlines.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": key, "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{key}-", svg)
    # matplotlib escapes its texts
    return Markup('<figure role="img" aria-label="{}">{}</figure>').format(alt, Markup(svg))


def picture_png(pixels: npt.NDArray[np.uint8], *, alt: str, width: int) -> Markup:
    """Return grey (H, W) or R, G, B (H, W, 3) pixels as an image `width` CSS pixels wide."""
    ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    written, data = cv2.imencode(".png", np.ascontiguousarray(ordered))
    if not written:
        raise ValueError(f"pixels of shape {pixels.shape} are not a picture")
    source = "data:image/png;base64," + base64.b64encode(BytesIO(data.tobytes()).read()).decode()
    return Markup('<img src="{}" alt="{}" width="{}">').format(source, alt, width)


def table_html(
    table: pd.DataFrame, *, index: str = "", marks: Mapping[str, str] | None = None
) -> Markup:
    """Return a table of text, its index as the first column.

    Parameters
    ----------
    table
        Cells are shown as `str` gives them; numbers belong right, so all but the index are aligned
        right.
    index
        Title of the first column.
    marks
        CSS class of rows by their index, e.g. a line above a summary.
    """
    head = Markup("").join(
        [Markup("<th>{}</th>").format(index), *(Markup("<th>{}</th>").format(c) for c in table)]
    )
    body = []
    for name, row in table.iterrows():
        cells = Markup("").join(Markup("<td>{}</td>").format(value) for value in row)
        body.append(
            Markup('<tr class="{}"><th scope="row">{}</th>{}</tr>').format(
                (marks or {}).get(str(name), ""), name, cells
            )
        )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(
        head, Markup("\n").join(body)
    )
