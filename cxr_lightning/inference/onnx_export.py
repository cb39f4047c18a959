"""A bundle's network as ONNX, with all that belongs to it in the file's metadata.

Inputs: `image`, uint8 (batch, 1, size, size), grey, normalised inside; where the network takes any,
`tabular`, float32 (batch, T). Outputs: `logits` and `probability` (its sigmoid), float32
(batch, labels), and the pooled `features`, float32 (batch, F).
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cxr_lightning import __version__
from cxr_lightning.bundle import Bundle, BundleInfo, load_bundle
from cxr_lightning.errors import DataError
from cxr_lightning.inference.runtimes import BUNDLE_HASH, bundle_hash
from cxr_lightning.models.network import Network, decision_logits

__all__ = ["TOLERANCE", "export_onnx", "metadata_of", "parity"]

TOLERANCE = 1e-4
"""Largest difference of a probability from torch's that is accepted."""


class _Exported(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: torch.Tensor, tabular: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.network.features(image)
        logits = decision_logits(self.network.classify(features, tabular))
        return logits, torch.sigmoid(logits), features


def export_onnx(
    bundle: Path, output: Path, images: NDArray[np.uint8], *, opset: int = 18
) -> dict[str, float]:
    """Write a bundle's network as ONNX, once it has been found to agree with torch.

    Parameters
    ----------
    images : uint8 (n, size, size)
        Pictures on which they must agree; at least two, so that a batch that was fixed shows.

    Returns
    -------
    dict
        The largest absolute difference of `probability`, `logits` and `features`, and `images`.

    Raises
    ------
    DataError
        The network cannot be expressed in ONNX, or the result differs from torch by more than
        `TOLERANCE`. Nothing is written then.
    """
    loaded = load_bundle(bundle)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
        file = Path(folder) / "network.onnx"
        _write(loaded, file, opset)
        _describe(file, loaded.info, bundle_hash(bundle), opset)
        differences = parity(loaded, file, images)
        if not differences["probability"] <= TOLERANCE:
            raise DataError(
                f"{bundle}: the exported network differs from torch by "
                f"{differences['probability']:.2g} in probability (at most {TOLERANCE:g} is "
                "accepted); nothing was written. Another opset=NUMBER may do"
            )
        os.replace(file, output)
    return differences


def _write(bundle: Bundle, file: Path, opset: int) -> None:
    size, inputs = bundle.info.image.size, len(bundle.info.tabular.outputs)
    example: tuple[torch.Tensor, ...] = (torch.zeros(2, 1, size, size, dtype=torch.uint8),)
    names, batch = ["image"], torch.export.Dim("batch", min=1)
    if inputs:
        example += (torch.zeros(2, inputs),)
        names.append("tabular")
    module = _Exported(bundle.network).eval()
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                example,
                file,
                input_names=names,
                output_names=["logits", "probability", "features"],
                dynamic_shapes={name: {0: batch} for name in names},
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever torch's tracer meets in a network of any library
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0][:300]
        raise DataError(
            f"{bundle.info.model.name}: torch cannot express this network in ONNX (opset={opset}): "
            f"{reason}"
        ) from error


def _describe(file: Path, info: BundleInfo, source: str, opset: int) -> None:
    import onnx

    model = onnx.load(file)
    model.producer_name, model.producer_version = "cxr_lightning", __version__
    onnx.helper.set_model_props(model, metadata_of(info) | {BUNDLE_HASH: source})
    onnx.checker.check_model(model)
    given = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if given != opset:  # a version that torch could not convert to
        raise DataError(f"{info.model.name}: torch writes opset {given}, not opset={opset}")
    onnx.save(model, file)


def metadata_of(info: BundleInfo) -> dict[str, str]:
    """Return what a reader of the ONNX file needs, as JSON texts by name."""
    described = {
        "labels": list(info.labels),
        "preprocessing": {
            **info.image.model_dump(mode="json", include={"size", "fit", "voi"}),
            "input": "uint8 (batch, 1, size, size), grey as displayed, 0 black to 255 white; "
            "of DICOM by voi: lut by VOI LUT, else window, else range of the picture; window: by "
            "window, else VOI LUT, else range; range: by range; fit=pad: "
            "centred on black, shrunk by area averaging; normalised inside the network",
        },
        "thresholds": info.thresholds.to_dict(),
        "calibration": dict(info.calibration),
        "tabular": {"inputs": list(info.tabular.outputs), "columns": info.tabular.to_dict()},
        "provenance": dict(info.provenance),
    }
    return {name: json.dumps(value, allow_nan=False) for name, value in described.items()}


def parity(bundle: Bundle, file: Path, images: NDArray[np.uint8]) -> dict[str, float]:
    """Return the largest absolute difference of each output from torch's, in batches of 1 and 7."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = len(bundle.info.tabular.outputs)
    module = _Exported(bundle.network).eval()
    worst = dict.fromkeys(("logits", "probability", "features"), 0.0)
    starts = [0, *range(1, len(images), 7)]
    for start, end in zip(starts, [*starts[1:], len(images)], strict=True):
        given: dict[str, Any] = {"image": images[start:end, None]}
        if inputs:
            # Any values will do: rising with the row, so that rows cannot be mixed up.
            rows = np.arange(start, end, dtype=np.float32)[:, None]
            given["tabular"] = np.sin(rows + np.arange(inputs, dtype=np.float32))
        with torch.inference_mode():
            expected = module(*(torch.from_numpy(one) for one in given.values()))
        for name, mine, other in zip(worst, session.run(list(worst), given), expected, strict=True):
            difference = float(np.abs(mine - other.numpy()).max(initial=0))
            # not max(): a NaN must stay
            worst[name] = difference if not difference <= worst[name] else worst[name]
    return worst | {"images": float(len(images))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch's exporter says of its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
