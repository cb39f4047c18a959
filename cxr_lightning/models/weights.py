"""Weights from a file into a network, with a report of what fitted."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cxr_lightning.errors import ConfigError, bullet_list
from cxr_lightning.models.backbone import Backbone
from cxr_lightning.models.weight_keys import Tensors, candidates, first_conv_weights

if TYPE_CHECKING:  # network.py imports this module
    from cxr_lightning.models.network import Network

__all__ = ["WeightReport", "assign_weights", "load_weights", "read_weights"]

SMALLEST_SHARE = 0.9
"""A file that fits fewer of the backbone's tensors is another architecture's, and refused.

Below that lie mistakes such as ResNet-18's file in a ResNet-34, of which more than half fits by
name and shape; above it, files of the right architecture that lack a norm or a position embedding.
"""


@dataclass(frozen=True)
class WeightReport:
    """What became of a file's tensors; `str()` is meant for the terminal.

    Names are those of the backbone's model; `unexpected` are the file's, read in the named
    style. `mismatched` says both shapes.
    """

    source: str
    style: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the backbone's tensors that the file gave, from 0 to 1."""
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        return len(self.matched) / total if total else 0.0

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [
            f"weights {self.source}: {len(self.matched)} of {total} backbone tensors matched "
            f"(by {self.style}); {len(self.missing)} missing, {len(self.mismatched)} of another "
            f"shape, {len(self.unexpected)} unexpected"
        ]
        lines += [f"  {note}" for note in self.notes]
        for what in ("missing", "mismatched", "unexpected"):
            if names := getattr(self, what):
                lines += [f"  {what}:", bullet_list(names, limit=10)]
        return "\n".join(lines)


def load_weights(target: Network | Backbone, path: Path | str) -> WeightReport:
    """Load a .pth, .pt, .ckpt or .safetensors file into a network or backbone, in place.

    Read are names of timm, torchvision (also into timm's model of the same architecture),
    EfficientNet-PyTorch (lukemelas), and this package's own bundles and checkpoints; of those the
    head is loaded too where its shape agrees. A first layer for three channels is summed to one
    where the network takes one, see :func:`assign_weights`.

    Raises
    ------
    ConfigError
        No such file, not a file of weights, or fewer than nine tenths of the backbone's tensors
        fit. Nothing is changed then.
    """
    path = Path(path)
    return assign_weights(target, read_weights(path), source=str(path))


def read_weights(path: Path) -> Tensors:
    """Return the tensors of a weights file by name, without running any code of the file."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"model.weights={path}: {what}; name a .pth, .pt or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise ConfigError(
            f"model.weights={path}: holds more than tensors, and is not opened: a pickle can "
            "run any code. Where you trust it, save its state_dict() alone: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)."
        ) from e
    except Exception as e:  # the readers of three formats each fail in their own ways
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ConfigError(
            f"model.weights={path}: cannot be read as weights ({reason}). Expected is a .pth or "
            ".pt file of torch.save, or a .safetensors file."
        ) from e
    for _ in range(3):
        if not isinstance(content, dict):
            break
        inner = [content[k] for k in _CONTAINERS if isinstance(content.get(k), dict)]
        if not inner:
            break
        content = inner[0]
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise ConfigError(
            f"model.weights={path}: holds no tensors by name (a state_dict), neither at the top "
            f"nor under {', '.join(_CONTAINERS)}"
        )
    return tensors


_CONTAINERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net")


def assign_weights(target: Network | Backbone, tensors: Tensors, *, source: str) -> WeightReport:
    """Copy `tensors` into the network or backbone, whatever style their names have.

    A first convolution trained on three channels is summed over them for a network of one. With
    one mean and standard deviation for all channels that is the same function of a grey image, up
    to rounding. ImageNet's differ a little per channel, so that the summed layer is an
    approximation: each channel's weight is off by at most 1.3 % (std 0.226 for 0.229, 0.224,
    0.225) and the response to a uniform grey by the offset of the means (0.449 for 0.485, 0.456,
    0.406).
    """
    backbone = target if isinstance(target, Backbone) else target.backbone
    model = backbone.model
    own, rest = _own_parts(tensors)
    named = candidates(own or tensors, model)
    fits = [(style, _fit(renamed, model)) for style, renamed in named]
    style, fit = max(fits, key=lambda f: len(f[1].usable))  # the first of the best
    notes = list(fit.notes)
    report_of = _Report(source, "names of this package" if own else style, fit)
    report = report_of(notes)
    if report.share < SMALLEST_SHARE:
        raise ConfigError(
            f"model.weights={source} does not fit this backbone: {len(report.matched)} of its "
            f"{len(fit.expected)} tensors match, at least {SMALLEST_SHARE:.0%} must. Is it of "
            f"another architecture than model.name?\n{report}"
        )
    model.load_state_dict({**fit.usable, **fit.counters}, strict=False)
    if own and not isinstance(target, Backbone):
        notes += _load_rest(target, rest)
    return report_of(notes)


@dataclass(frozen=True)
class _Fit:
    expected: tuple[str, ...]
    usable: dict[str, torch.Tensor]
    counters: dict[str, torch.Tensor]
    unexpected: tuple[str, ...]
    mismatched: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Report:
    source: str
    style: str
    fit: _Fit

    def __call__(self, notes: list[str]) -> WeightReport:
        fit = self.fit
        matched = tuple(n for n in fit.expected if n in fit.usable)
        missing = tuple(n for n in fit.expected if n not in fit.usable and n not in fit.mismatched)
        other = tuple(f"{name}: {why}" for name, why in fit.mismatched.items())
        return WeightReport(
            self.source, self.style, matched, missing, fit.unexpected, other, tuple(notes)
        )


def _fit(tensors: Tensors, model: nn.Module) -> _Fit:
    state = model.state_dict()
    counted = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    usable: dict[str, torch.Tensor] = {}
    mismatched: dict[str, str] = {}
    notes = []
    first = first_conv_weights(model)
    for name, want in counted.items():
        have = tensors.get(name)
        if have is None:
            continue
        adapted = adapt_channels(have, want.shape) if name in first else have
        if adapted.shape != want.shape:
            mismatched[name] = f"{tuple(have.shape)} in the file, {tuple(want.shape)} here"
            continue
        usable[name] = adapted
        if adapted is not have:
            verb = "summed" if want.shape[1] < have.shape[1] else "spread"
            notes.append(
                f"first layer {name}: {verb} from {have.shape[1]} to {want.shape[1]} channels"
            )
    counters = {n: t for n, t in tensors.items() if n in state and n not in counted}
    extra = (n for n in tensors if n not in state and not n.endswith("num_batches_tracked"))
    return _Fit(tuple(counted), usable, counters, tuple(extra), mismatched, tuple(notes))


def adapt_channels(weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Bring a first convolution (O, I, k, k) to another number of input channels, where one can.

    3 to 1: the sum over channels, what three equal channels would have met. 1 to 3: a third each.
    Layers behind a space-to-depth keep their blocks apart. Any other shape is returned unchanged.
    """
    if weight.ndim != 4 or len(shape) != 4 or weight.shape[2:] != shape[2:]:
        return weight
    out, channels, wanted = weight.shape[0], weight.shape[1], shape[1]
    if channels == 3 * wanted:
        return weight.float().reshape(out, wanted, 3, *shape[2:]).sum(2).to(weight.dtype)
    if wanted == 3 * channels:
        return weight.repeat_interleave(3, dim=1) / 3
    return weight


def _own_parts(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Split a state of our own network into its backbone's model and everything beside it."""
    mark = "backbone.model."
    key = next((name for name in tensors if mark in name), None)
    if key is None:
        return {}, {}
    prefix = key[: key.index(mark)]
    inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    own = {n.removeprefix(mark): t for n, t in inside.items() if n.startswith(mark)}
    return own, {n: t for n, t in inside.items() if not n.startswith(mark)}


def _load_rest(network: Network, rest: Tensors) -> list[str]:
    """Load what stands behind the backbone from our own file, each part where all of it fits.

    A head is of no use behind a fusion that starts anew, so it then does as well.
    """
    notes: list[str] = []
    for part in ("pool", "fusion", "head"):
        module: nn.Module = getattr(network, part)
        want = module.state_dict()
        have = {n.removeprefix(f"{part}."): t for n, t in rest.items() if n.startswith(f"{part}.")}
        if not want and not have:
            continue
        if part == "head" and any(note.startswith("fusion") and "anew" in note for note in notes):
            notes.append("head: starts anew behind the fusion")
        elif {n: t.shape for n, t in want.items()} == {n: t.shape for n, t in have.items()}:
            module.load_state_dict(have)
            notes.append(f"{part}: loaded")
        elif not have:
            notes.append(f"{part}: not in the file, starts anew")
        else:
            notes.append(f"{part}: of another shape (other labels or options), starts anew")
    return notes
