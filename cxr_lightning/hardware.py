"""Which device and precision a configuration means on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from cxr_lightning.config.schema import TrainerConfig
from cxr_lightning.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]

__all__ = ["Placement", "place"]


@dataclass(frozen=True)
class Placement:
    """What `auto` was resolved to.

    Attributes
    ----------
    accelerator
        "cpu" or "gpu".
    devices
        Processes on this machine.
    precision
        A precision of Lightning's Trainer.
    """

    accelerator: str
    devices: int
    precision: Precision


def place(config: TrainerConfig) -> Placement:
    """Resolve accelerator, devices and precision.

    Raises
    ------
    ConfigError
        More GPUs are asked for than there are, or a precision that the hardware lacks.
    """
    gpus = torch.cuda.device_count()
    accelerator = config.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    if accelerator == "gpu" and not gpus:
        raise ConfigError(
            "trainer.accelerator=gpu: torch sees no GPU. Use trainer=cpu (or trainer=ddp_cpu), or "
            "check the driver with nvidia-smi and, in a container, --gpus all"
        )
    devices = config.devices if config.devices != "auto" else (gpus if accelerator == "gpu" else 1)
    if accelerator == "gpu" and devices > gpus:
        raise ConfigError(f"trainer.devices={devices}: this machine has {gpus} GPU(s)")
    if devices < 1:
        raise ConfigError(f"trainer.devices={devices}: must be at least 1, or auto")
    precision: Precision
    if config.precision != "auto":
        precision = config.precision
    elif _has_bf16(accelerator):
        precision = "bf16-mixed"
    else:
        precision = "16-mixed" if accelerator == "gpu" else "32-true"
    if precision == "16-mixed" and accelerator == "cpu":
        raise ConfigError(
            "trainer.precision=16-mixed needs a GPU; on a CPU use bf16-mixed or 32-true"
        )
    return Placement(accelerator, devices, precision)


def _has_bf16(accelerator: str) -> bool:
    if accelerator == "gpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without these instructions bf16 is emulated, and slower than float32. Before torch 2.9 there
    # is no public way to ask: float32 is then the safe answer.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
