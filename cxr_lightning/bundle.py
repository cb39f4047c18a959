"""The artifact: one safetensors file of weights, labels, preprocessing, thresholds, calibration.

Everything that is needed to go from a radiograph to labelled decisions is in it, and loading it
executes no code (https://huggingface.co/docs/safetensors). Training writes it; prediction,
evaluation, explanation and export read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cxr_lightning import __version__
from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.data.seen import SeenPatients
from cxr_lightning.data.tabular import TabularEncoder
from cxr_lightning.errors import DataError
from cxr_lightning.evaluation.familiarity import Familiarity
from cxr_lightning.evaluation.thresholds import Thresholds
from cxr_lightning.models.network import Network, build_network
from cxr_lightning.whole_file import whole_file

__all__ = ["Bundle", "BundleInfo", "load_bundle", "read_bundle_info", "save_bundle"]

FORMAT = 2
_OLDEST = 1
_KEY = "cxr_lightning"
# Before the names of tensors that are no weights; no module's name holds a slash.
_FAMILIARITY = "familiarity/"
_PATIENTS = "patients/"
_AGAIN = (
    "Train again with this version (python -m cxr_lightning.fit --config config.yaml, with the "
    "config.yaml beside it), or use the version that wrote it."
)


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says of itself, beside the weights.

    Attributes
    ----------
    labels
        Names of the outputs, in order.
    model, image
        Architecture and preprocessing.
    thresholds
        Probability from which a label is called positive, fitted on validation.
    tabular
        Inputs beside the image.
    classes
        Outputs of the network per label.
    calibration
        Parameters of a calibration per label; empty: probabilities are the logits' sigmoid.
    provenance
        Data set, fingerprint, split counts, seed, versions.
    familiarity
        Tells images that are unlike those of training; None where there were too few.
    seen
        Tells the patients of the training, as hashes; None in bundles of format 1, and where ids
        are plain.
    """

    labels: tuple[str, ...]
    model: ModelConfig
    image: ImageConfig
    thresholds: Thresholds
    tabular: TabularEncoder = field(default_factory=TabularEncoder)
    classes: int = 1
    calibration: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    familiarity: Familiarity | None = None
    seen: SeenPatients | None = None


@dataclass(frozen=True)
class Bundle:
    """A network ready for inference, with what belongs to it."""

    info: BundleInfo
    network: Network


def save_bundle(path: Path, network: Network, info: BundleInfo) -> None:
    """Write a bundle, whole or not at all."""
    # The weights' origin is a path of the machine that trained; they are in the file now.
    model = info.model.model_copy(update={"weights": None, "pretrained": False})
    header = {
        "format": FORMAT,
        "version": __version__,
        "labels": list(info.labels),
        "model": model.model_dump(mode="json"),
        "image": info.image.model_dump(mode="json"),
        "thresholds": info.thresholds.to_dict(),
        "tabular": info.tabular.to_dict(),
        "classes": info.classes,
        "calibration": dict(info.calibration),
        "provenance": dict(info.provenance),
        "familiarity": info.familiarity.to_dict() if info.familiarity else None,
        "seen": info.seen.salt if info.seen else None,
        "seen_ids": list(info.seen.ids) if info.seen else [],
    }
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    if info.familiarity:
        arrays = info.familiarity.arrays()
        tensors |= {_FAMILIARITY + name: torch.from_numpy(array) for name, array in arrays.items()}
    if info.seen:
        patients = info.seen.hashes
        tensors |= {_PATIENTS + name: torch.from_numpy(one) for name, one in patients.items()}
    with whole_file(path) as partial:
        # Not by save_file: it hides what the system says of a full disk, and writes for the user
        # alone, where other files of a run follow the user's umask.
        partial.write_bytes(save(tensors, metadata={_KEY: json.dumps(header)}))


def read_bundle_info(path: Path) -> BundleInfo:
    """Read a bundle's description without its weights.

    Raises
    ------
    DataError
        The file is missing, is not a bundle, or is one that this version does not read.
    """
    if not path.is_file():
        inside = path / "bundle.safetensors"
        hint = f". Did you mean {inside}?" if inside.is_file() else ""
        raise DataError(f"{path}: there is no such bundle{hint}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            header = json.loads(text) if text else None
            arrays = {
                name: np.asarray(file.get_tensor(name))
                for name in file.keys()  # noqa: SIM118  # not iterable
                if name.startswith((_FAMILIARITY, _PATIENTS))
            }
    except (SafetensorError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a readable bundle: {error}") from None
    if not isinstance(header, dict):
        raise DataError(f"{path}: a safetensors file, but not a bundle that `fit` wrote")
    _check_format(path, header)
    numbers, salt = header.get("familiarity"), header.get("seen")
    try:
        return BundleInfo(
            labels=tuple(header["labels"]),
            model=ModelConfig.model_validate(header["model"]).model_copy(
                update={"pretrained": False, "weights": None}  # the weights are in the file
            ),
            image=ImageConfig.model_validate(header["image"]),
            thresholds=Thresholds.from_dict(header["thresholds"]),
            tabular=TabularEncoder.from_dict(header["tabular"]),
            classes=header["classes"],
            calibration=header["calibration"],
            provenance=header["provenance"],
            familiarity=(
                Familiarity.from_parts(numbers, _below(_FAMILIARITY, arrays)) if numbers else None
            ),
            seen=(
                SeenPatients(salt, _below(_PATIENTS, arrays), tuple(header.get("seen_ids", ())))
                if salt
                else None
            ),
        )
    except KeyError as error:
        raise DataError(
            f"{path}: its description lacks {error}: it was written by another version "
            f"({header.get('version', 'unknown')}) under the same format, or is damaged. "
            f"{_AGAIN}"
        ) from None
    except (TypeError, ValidationError, DataError) as error:
        raise DataError(f"{path}: its description is damaged: {error}") from None


def _check_format(path: Path, header: Mapping[str, Any]) -> None:
    number, version = header.get("format"), header.get("version", "unknown")
    if isinstance(number, int) and _OLDEST <= number <= FORMAT:
        return
    remedy = (
        f"Upgrade cxr_lightning; this is {__version__}."
        if isinstance(number, int) and number > FORMAT
        else _AGAIN
    )
    raise DataError(
        f"{path}: a bundle of format {number}, written by cxr_lightning {version}; this version "
        f"reads formats {_OLDEST} to {FORMAT}. {remedy}"
    )


def _below(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def load_bundle(path: Path | str, *, device: str | torch.device = "cpu") -> Bundle:
    """Load a bundle for inference: the network in evaluation mode on `device`.

    Raises
    ------
    DataError
        See :func:`read_bundle_info`; or the weights do not fit the described network.
    """
    path = Path(path)
    info = read_bundle_info(path)
    network = build_network(
        info.model,
        info.image,
        info.labels,
        tabular=len(info.tabular.outputs),
        classes=info.classes,
    )
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if "/" not in name]  # noqa: SIM118  # not iterable
            state = {name: file.get_tensor(name) for name in names}
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{path}: the weights do not fit the network: {error}") from None
    return Bundle(info, network.to(device).eval())
