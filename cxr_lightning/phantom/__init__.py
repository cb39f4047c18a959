"""Synthetic frontal chest radiographs: to try a cluster, a configuration or a change without data.

The pictures are drawn by rules. They mean nothing clinically: a model trained on them must never be
used on people, and no number measured on them says anything about real radiographs.
"""

from __future__ import annotations

from cxr_lightning.phantom.cases import FINDINGS, Case, Finding
from cxr_lightning.phantom.cohort import make_cohort
from cxr_lightning.phantom.render import Box, Rendering, render, render_with_truth
from cxr_lightning.phantom.write import write_phantom

__all__ = [
    "FINDINGS",
    "Box",
    "Case",
    "Finding",
    "Rendering",
    "make_cohort",
    "render",
    "render_with_truth",
    "write_phantom",
]
