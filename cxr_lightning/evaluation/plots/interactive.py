"""The features as a page to turn and to point at: plotly, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from cxr_lightning.evaluation.plots.style import GREY, INK, PALETTE, VERMILION, display_name

__all__ = ["interactive_scatter", "write_page"]

ABSENT = "#C9C9C9"
SYMBOLS = ("circle", "square", "diamond", "cross", "x")


def interactive_scatter(
    table: pd.DataFrame, axes: Sequence[str], labels: Sequence[str], *, title: str
) -> go.Figure:
    """Draw a table's rows in two or three dimensions, coloured by a choice from a menu.

    Parameters
    ----------
    table
        `sample_id`, `cluster`, the columns `axes`, and a column per label (1, 0, NaN).
    axes
        Two or three columns; their names stand at the axes.
    labels
        Columns to colour by, beside the cluster.
    """
    figure = go.Figure()
    choices: list[tuple[str, int]] = []
    for name in ("cluster", *labels):
        groups = _groups(table, name)
        for group, colour, symbol, chosen in groups:
            figure.add_trace(_trace(table[chosen], axes, group, colour, symbol))
        choices.append((name, len(groups)))
    total, start, buttons = sum(count for _, count in choices), 0, []
    for name, count in choices:
        visible = [start <= index < start + count for index in range(total)]
        start += count
        label = "by cluster" if name == "cluster" else display_name(name)
        buttons.append({"label": label, "method": "update", "args": [{"visible": visible}]})
    for index, trace in enumerate(figure.data):
        trace.visible = index < choices[0][1]
    names = dict(zip(("xaxis", "yaxis", "zaxis"), axes, strict=False))
    scene: dict[str, object] = {key: {"title": {"text": name}} for key, name in names.items()}
    if len(axes) == 3:
        scene |= {"aspectmode": "cube", "camera": {"eye": {"x": 1.5, "y": 1.5, "z": 0.9}}}
    figure.update_layout(
        title={"text": title, "x": 0.5},
        height=680,
        template="plotly_white",
        font={"color": INK},
        legend={"itemsizing": "constant"},
        updatemenus=[
            {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
        ],
        margin={"t": 80, "l": 40, "r": 20, "b": 40},
        **({"scene": scene} if len(axes) == 3 else scene),
    )
    return figure


def _groups(table: pd.DataFrame, name: str) -> list[tuple[str, str, str, np.ndarray]]:
    values = table[name].to_numpy(np.float64)
    if name == "cluster":
        return [
            (
                f"cluster {int(cluster)} ({int((values == cluster).sum()):,})",
                PALETTE[int(cluster) % len(PALETTE)],
                SYMBOLS[int(cluster) // len(PALETTE) % len(SYMBOLS)],
                values == cluster,
            )
            for cluster in np.unique(values)
        ]
    groups = [
        ("absent", ABSENT, "circle", values == 0),
        ("unknown", GREY, "circle-open", np.isnan(values)),
        ("present", VERMILION, "circle", values == 1),
    ]
    return [
        (f"{word} ({int(chosen.sum()):,})", colour, symbol, chosen)
        for word, colour, symbol, chosen in groups
        if chosen.any()
    ]


def _trace(
    rows: pd.DataFrame, axes: Sequence[str], name: str, colour: str, symbol: str
) -> go.Scatter | go.Scatter3d:
    places = {key: rows[axis] for key, axis in zip("xyz", axes, strict=False)}
    kind = go.Scatter3d if len(axes) == 3 else go.Scattergl
    return kind(
        **places,
        mode="markers",
        name=name,
        text=rows["sample_id"],
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        marker={"size": 3.5 if len(axes) == 3 else 6, "color": colour, "symbol": symbol},
    )


def write_page(figures: Sequence[go.Figure], path: Path, *, title: str) -> Path:
    """Write figures one below the other into a page that holds all it needs."""
    parts = [
        figure.to_html(
            full_html=False,
            include_plotlyjs=index == 0,
            # a button that would send the points to a server of plotly's
            config={"displaylogo": False, "modeBarButtonsToRemove": ["sendChartToCloud"]},
        )
        for index, figure in enumerate(figures)
    ]
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"</head>\n<body>{''.join(parts)}</body></html>\n",
        encoding="utf-8",
    )
    return path
