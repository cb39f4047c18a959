"""The MLflow model of a run: images in, one labelled row each out.

MLflow loads it by this module's name (`loader_module`) from the bundle that lies in it, so that
nothing pickled is executed; this package has to be installed where it is loaded. MLflow itself is
not imported here.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_lightning.bundle import BundleInfo
from cxr_lightning.config.schema import ImageConfig
from cxr_lightning.data.images import (
    UnreadableImage,
    decode_image,
    read_image,
    resize_to_square,
    to_grey,
)
from cxr_lightning.errors import DataError
from cxr_lightning.inference.beside import encode_columns
from cxr_lightning.inference.predictor import Predictor, prediction_table
from cxr_lightning.inference.runtimes import open_runtime

__all__ = ["IMAGE", "ServedModel", "output_columns"]

IMAGE = "image"
BATCH = 32
ON_SERVER = "__pyfunc_model_path__"  # MLflow's scoring server keeps the model's folder in it


class ServedModel:
    """What `mlflow.pyfunc.load_model` wraps, and `mlflow models serve` answers with.

    Parameters
    ----------
    bundle
        The bundle's file.
    """

    def __init__(self, bundle: Path) -> None:
        self.info, compute = open_runtime(bundle)
        self.predictor = Predictor(self.info, compute)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row per image: those of `prediction_table`, and `error`.

        Parameters
        ----------
        model_input
            A table or dict whose column `image` holds the bytes of PNG, JPEG or DICOM files, paths,
            or grey uint8 arrays (height, width); further columns are the inputs beside the image.
            Of this class, not of MLflow, which holds the column's name against the signature, a
            list of images will do where the network takes none. A server reads no files: it takes
            bytes.
        params
            None are known.

        An image that cannot be read has its reason in `error` and nothing else.
        """
        table = _as_table(model_input)
        tabular = encode_columns(self.info.tabular, table, source="the request")
        images = list(table[IMAGE])
        parts = [
            self._rows(images[at : at + BATCH], None if tabular is None else tabular[at:][:BATCH])
            for at in range(0, len(images), BATCH)
        ]
        return _plain(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()

    def _rows(self, images: Sequence[Any], tabular: NDArray[np.float32] | None) -> pd.DataFrame:
        pixels, errors = [], []
        for image in images:
            try:
                pixels.append(_pixels(image, self.info.image))
                errors.append("")
            except UnreadableImage as error:
                errors.append(error.reason)
        good = [row for row, error in enumerate(errors) if not error]
        columns = list(output_columns(self.info))
        if not pixels:
            return pd.DataFrame(columns=columns, index=range(len(images))).assign(error=errors)
        beside = None if tabular is None else tabular[good]
        rows = prediction_table(self.predictor(np.stack(pixels), beside), self.info)
        return rows.set_axis(good).reindex(range(len(images))).assign(error=errors)[columns]


def _as_table(model_input: Any) -> pd.DataFrame:
    if isinstance(model_input, pd.DataFrame):
        table = model_input
    elif isinstance(model_input, dict):
        table = pd.DataFrame({name: pd.Series(list(one)) for name, one in model_input.items()})
    else:
        one = isinstance(model_input, str | bytes) or getattr(model_input, "ndim", 0) == 2
        images = [model_input] if one else list(model_input)
        table = pd.DataFrame({IMAGE: pd.Series(images, dtype="object")})
    if IMAGE not in table:
        raise DataError(
            f"the request needs a column {IMAGE!r}; it has {', '.join(map(str, table))}"
        )
    # MLflow turns {"image": [path, path]} into one row that holds a list.
    several = table[IMAGE].map(lambda cell: isinstance(cell, list)).any()
    return (table.explode(IMAGE) if several else table).reset_index(drop=True)


def _pixels(image: Any, config: ImageConfig) -> NDArray[np.uint8]:
    """Return the square that the network takes, as training made it."""
    if isinstance(image, bytes | bytearray | memoryview):
        return resize_to_square(decode_image(_content(bytes(image)), voi=config.voi), config)
    if isinstance(image, str | os.PathLike):
        if ON_SERVER in os.environ:
            raise UnreadableImage("a server reads no files; send the file's bytes in base64")
        return resize_to_square(read_image(Path(image), voi=config.voi), config)
    if isinstance(image, np.ndarray):
        colour = image.ndim == 3 and image.shape[2] == 3
        if image.dtype not in (np.uint8, np.uint16) or not (image.ndim == 2 or colour):
            raise UnreadableImage(
                "an array must be uint8 or uint16 of shape (height, width) or (height, width, 3); "
                f"this one is {image.dtype} {image.shape}"
            )
        if not image.size:
            raise UnreadableImage("an array without pixels")
        return resize_to_square(to_grey(image), config)
    raise UnreadableImage(f"neither bytes nor a path nor an array: {type(image).__name__}")


def _content(data: bytes) -> bytes:
    """Return the file's content; of MLflow's request formats two leave it in base64."""
    if data[:1].isalnum() or data[:1] in (b"/", b"+"):  # DICOM starts with zeros, PNG with 0x89
        try:
            return base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error:
            return data
    return data


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Put None for what is undefined: JSON knows no NaN."""
    finite = table.map(lambda cell: not isinstance(cell, float) or bool(np.isfinite(cell)))
    holes = ~finite.all() | table.isna().any()
    return table.assign(
        **{
            str(name): table[name].astype("object").where(finite[name] & table[name].notna(), None)
            for name in table.columns[holes]
        }
    )


def output_columns(info: BundleInfo) -> dict[str, type]:
    """Return the columns of a prediction and their types, in order."""
    kinds = {"probability": float, "calibrated": float, "positive": bool, "threshold": float}
    labelled = {f"{kind}/{label}": of for label in info.labels for kind, of in kinds.items()}
    return {"flags": str, "unfamiliarity": float, **labelled, "error": str}


def _load_pyfunc(path: str) -> ServedModel:
    """Load the model; MLflow calls it with the bundle's path."""
    return ServedModel(Path(path))
