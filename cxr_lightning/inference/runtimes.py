"""What computes a network: torch, ONNX Runtime or OpenVINO, with one interface.

ONNX Runtime and OpenVINO read the file that `export` wrote. Everything but the network itself
(labels, preprocessing, thresholds, calibration) comes from the bundle for all three, and the file
must say that it was made from that bundle.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_lightning.bundle import Bundle, BundleInfo, load_bundle, read_bundle_info
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.inference.checks import missing_package
from cxr_lightning.inference.options import Runtime
from cxr_lightning.models.network import decision_logits

__all__ = ["BUNDLE_HASH", "Compute", "Computed", "bundle_hash", "open_runtime", "torch_device"]

BUNDLE_HASH = "bundle_sha256"  # key of the metadata of an ONNX file


class Computed(NamedTuple):
    """Logits (n, L) and pooled features (n, F), float32."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Compute(Protocol):
    """Images uint8 (n, size, size), and tabular inputs float32 (n, T) or None, to outputs."""

    def __call__(
        self, images: NDArray[np.uint8], tabular: NDArray[np.float32] | None
    ) -> Computed: ...


def open_runtime(
    bundle: Path,
    *,
    runtime: Runtime = "torch",
    network: Path | None = None,
    device: str = "auto",
    precision: str = "full",
) -> tuple[BundleInfo, Compute]:
    """Load a bundle's network into a runtime.

    Parameters
    ----------
    bundle
        The bundle.
    runtime, device, precision
        See :class:`PredictOptions`.
    network
        ONNX file of the other runtimes; None: beside the bundle.

    Raises
    ------
    ConfigError
        The runtime is not installed, lacks the device or the precision, or has no ONNX file yet.
    DataError
        The bundle cannot be read, or the ONNX file was made from another one.
    """
    if problem := missing_package(runtime):
        raise ConfigError(problem)
    bf16 = precision == "bf16"
    if runtime == "torch":
        loaded = load_bundle(bundle, device=torch_device(device))
        return loaded.info, _Torch(loaded, bf16)
    if runtime == "onnx" and bf16:
        raise ConfigError(
            "precision=bf16: ONNX Runtime computes in full precision; use runtime=torch or openvino"
        )
    info, file = read_bundle_info(bundle), network or bundle.with_suffix(".onnx")
    if not file.is_file():
        raise ConfigError(
            f"runtime={runtime}: there is no {file}; write it with "
            f"python -m cxr_lightning.export bundle={bundle} output={file}"
        )
    compute = _OnnxRuntime(file, device) if runtime == "onnx" else _OpenVino(file, device, bf16)
    if compute.source != bundle_hash(bundle):
        raise DataError(
            f"{file} was not exported from {bundle} as it is now; export it again with "
            f"python -m cxr_lightning.export bundle={bundle} output={file}"
        )
    return info, compute


def bundle_hash(bundle: Path) -> str:
    """SHA-256 of a bundle's bytes, in hexadecimal."""
    with bundle.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def torch_device(device: str) -> str:
    """Return the device that `auto`, `cpu` or `cuda` means on this machine."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device=cuda: torch sees no GPU. Use device=cpu, or check the driver with nvidia-smi"
        )
    return "cpu" if device == "cpu" or not torch.cuda.is_available() else "cuda"


class _Torch:
    """The bundle's own network; in full precision it is what wrote a run's predictions."""

    def __init__(self, bundle: Bundle, bf16: bool) -> None:
        self.network = bundle.network.to(memory_format=torch.channels_last)
        self.bf16 = bf16
        self.device = next(bundle.network.parameters()).device

    def __call__(self, images: NDArray[np.uint8], tabular: NDArray[np.float32] | None) -> Computed:
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
        with torch.inference_mode(), autocast:
            pixels = torch.from_numpy(images)[:, None].to(self.device)
            beside = None if tabular is None else torch.from_numpy(tabular).to(self.device)
            features = self.network.features(pixels)
            logits = decision_logits(self.network.classify(features, beside))
        return Computed(logits.float().cpu().numpy(), features.float().cpu().numpy())


def _inputs(images: NDArray[np.uint8], tabular: NDArray[np.float32] | None) -> dict[str, Any]:
    named: dict[str, Any] = {"image": images[:, None]}
    return named if tabular is None else named | {"tabular": tabular}


class _OnnxRuntime:
    def __init__(self, file: Path, device: str) -> None:
        import onnxruntime

        available = onnxruntime.get_available_providers()
        gpu = "CUDAExecutionProvider"
        if device == "cuda" and gpu not in available:
            raise ConfigError(
                "device=cuda: this onnxruntime computes on the CPU only. Use device=cpu, or "
                "install onnxruntime-gpu in its place"
            )
        chosen = [gpu] if device != "cpu" and gpu in available else []
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(
                str(file), options, providers=[*chosen, "CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001  # onnxruntime names its errors nowhere
            raise DataError(f"{file}: not an ONNX file that onnxruntime reads: {error}") from None
        self.source = self.session.get_modelmeta().custom_metadata_map.get(BUNDLE_HASH)

    def __call__(self, images: NDArray[np.uint8], tabular: NDArray[np.float32] | None) -> Computed:
        return Computed(*self.session.run(["logits", "features"], _inputs(images, tabular)))


class _OpenVino:
    def __init__(self, file: Path, device: str, bf16: bool) -> None:
        import openvino

        if device == "cuda":
            raise ConfigError("device=cuda: OpenVINO computes on CPUs; use device=cpu or auto")
        try:
            model = openvino.Core().read_model(file)
        except RuntimeError as error:
            raise DataError(f"{file}: not an ONNX file that OpenVINO reads: {error}") from None
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",  # else the CPU decides
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self.model = openvino.Core().compile_model(model, "CPU", settings)
        self.source = _metadata(model).get(BUNDLE_HASH)

    def __call__(self, images: NDArray[np.uint8], tabular: NDArray[np.float32] | None) -> Computed:
        found = self.model(_inputs(images, tabular))
        return Computed(np.array(found["logits"]), np.array(found["features"]))


def _metadata(model: Any) -> dict[str, str]:
    info = model.get_rt_info()
    return (
        {key: str(value.astype(str)) for key, value in info["framework"].items()}
        if ("framework" in info)
        else {}
    )
