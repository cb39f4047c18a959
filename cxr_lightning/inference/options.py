"""What `predict` and `export` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from cxr_lightning.config.schema import Section

__all__ = [
    "ERRORS",
    "PACKAGES",
    "SUFFIXES",
    "ExportOptions",
    "PredictOptions",
    "Runtime",
    "TableFormat",
]

ERRORS = "errors.csv"
"""Name of the list of what could not be read, beside the output."""

Runtime = Literal["torch", "onnx", "openvino"]
TableFormat = Literal["csv", "parquet", "jsonl"]
PACKAGES: dict[Runtime, tuple[str, str]] = {
    # what a runtime imports, and the extra of this package that installs it
    "torch": ("torch", ""),
    "onnx": ("onnxruntime", "export"),
    "openvino": ("openvino", "openvino"),
}
SUFFIXES: dict[str, TableFormat] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}


class PredictOptions(Section):
    """Words of `python -m cxr_lightning.predict`."""

    bundle: Path = Field(description="The bundle that a run wrote: runs/NAME/bundle.safetensors.")
    input: tuple[str, ...] = Field(
        min_length=1,
        description="Images (PNG, JPEG, DICOM), folders (searched with what is below them), "
        "patterns, @LIST (a text file, one path a line) or - (paths from standard input). Several "
        "words; input= may be left away.",
    )
    output: Path | None = Field(
        None,
        description="Table to write: .csv, .parquet or .jsonl; what could not be read is listed in "
        "errors.csv beside it. None: CSV on standard output.",
    )
    format: TableFormat | None = Field(
        None, description="Format of the output, where its name does not say it."
    )
    runtime: Runtime = Field(
        "torch",
        description="What computes: torch, or onnx and openvino on the network that "
        "`export` wrote beside the bundle.",
    )
    network: Path | None = Field(
        None, description="ONNX file for runtime=onnx and openvino; none: the bundle's name, .onnx."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where it computes; auto: on a GPU where the runtime sees one."
    )
    precision: Literal["full", "bf16"] = Field(
        "full",
        description="full: the numbers of the bundle. bf16 (torch, openvino): two to four times as "
        "many images a second on CPUs with bfloat16 instructions; probabilities within about 0.01.",
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Images that are computed at once.")
    processes: int | None = Field(
        None, ge=1, le=256, description="Processes that decode images; none: one for each CPU."
    )
    table: Path | None = Field(
        None,
        description="Table (CSV, Parquet) with the inputs beside the image, for a network that "
        "takes any; a column path, image_path, image or sample_id names the image.",
    )
    overlays: Path | None = Field(
        None,
        description="New or empty folder for heat maps (Grad-CAM) over the images, one for each "
        "label that is called positive; the column overlays says where those of an image are.",
    )


class ExportOptions(Section):
    """Words of `python -m cxr_lightning.export`."""

    bundle: Path = Field(description="The bundle that a run wrote: runs/NAME/bundle.safetensors.")
    format: Literal["onnx"] = Field("onnx", description="Format of the exported network.")
    output: Path | None = Field(
        None, description="File to write; none: beside the bundle, as bundle.onnx."
    )
    input: tuple[str, ...] = Field(
        (),
        description="Images on which the exported network must agree with torch, beside the "
        "synthetic ones that are always used; as in `predict`.",
    )
    opset: int = Field(
        18, ge=18, le=23, description="Version of ONNX's operators; older readers know fewer."
    )
