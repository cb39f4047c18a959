"""How a weights file names its tensors, mapped to the names of a backbone's model.

A style is a function from a file's tensors to tensors under the model's names. Which style a file
has is not asked of the user: all are tried, and the one that fits the most tensors is used.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

__all__ = ["Tensors", "candidates", "first_conv_weights", "from_lukemelas"]

Tensors = Mapping[str, torch.Tensor]

_WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "network.", "encoder.", "features.")
# torchvision's first DenseNet files write norm.1 where its code has said norm1 since
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_LUKEMELAS_EPS = 1e-3


def candidates(tensors: Tensors, model: nn.Module) -> Iterator[tuple[str, Tensors]]:
    """Yield (style, tensors under that style's reading of the names), the plainest first."""
    for stripped in _without_wrappers(tensors):
        yield "its own names", stripped
        if any(_OLD_DENSENET.match(name) for name in stripped):
            yield (
                "torchvision's first DenseNet names",
                {_OLD_DENSENET.sub(r"\1\2", name): t for name, t in stripped.items()},
            )
        if "_conv_stem.weight" in stripped:
            yield "lukemelas EfficientNet names", from_lukemelas(stripped, model)
        for style, convert in (("timm's checkpoint filter", _filtered), ("order", _by_order)):
            if (converted := convert(stripped, model)) is not None:
                yield style, converted


def first_conv_weights(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the weights that see the image: those timm names, or the first of all."""
    listed = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    if listed:
        return tuple(f"{n}.weight" for n in ([listed] if isinstance(listed, str) else listed))
    convs = (n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    return tuple(f"{n}.weight" for n in [next(convs, None)] if n is not None)


def from_lukemelas(tensors: Tensors, model: nn.Module) -> Tensors:
    """Map EfficientNet-PyTorch names (`_blocks.3._expand_conv`) to timm's (`blocks.2.0.conv_pw`).

    That implementation numbers its blocks through all stages, and its batch norms add 1e-3 to the
    variance. Where the model adds another epsilon, the difference moves into the running variance,
    which leaves the network in evaluation mode exactly as it was trained.
    """
    stages = getattr(model, "blocks", ())
    blocks = [f"blocks.{s}.{b}" for s, stage in enumerate(stages) for b, _ in enumerate(stage)]
    eps = {n: m.eps for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    top["_fc"] = "classifier"
    mapped: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
        if block and int(block[1]) < len(blocks):
            expands = f"_blocks.{block[1]}._expand_conv.weight" in tensors
            new = f"{blocks[int(block[1])]}.{_block_part(block[2], expands)}"
        else:
            new = top.get(module, module)
        if kind == "running_var":
            tensor = tensor + (_LUKEMELAS_EPS - eps.get(new, _LUKEMELAS_EPS))
        mapped[f"{new}.{kind}"] = tensor
    return mapped


def _block_part(part: str, expands: bool) -> str:
    """Name a layer of a block; blocks that do not expand have their norms numbered one lower."""
    if expands:
        names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
        names |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    else:
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw"}
        names |= {"_bn2": "bn2"}
    names |= {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    return names.get(part, part)


def _without_wrappers(tensors: Tensors) -> Iterator[Tensors]:
    """Yield the tensors as they are, then with each prefix removed that most names share."""
    yield tensors
    for _ in range(4):
        for prefix in _WRAPPERS:
            if sum(name.startswith(prefix) for name in tensors) * 2 > len(tensors):
                tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
                yield tensors
                break
        else:
            return


def _filtered(tensors: Tensors, model: nn.Module) -> Tensors | None:
    """Apply the converter that timm has beside the model, for foreign or differently sized files.

    It also resamples position embeddings to the grid of the model.
    """
    convert: Callable[..., Tensors] | None
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    try:
        return convert(dict(tensors), model)
    except Exception:  # noqa: BLE001 - written for other files, it may fail on this one
        return None


def _by_order(tensors: Tensors, model: nn.Module) -> Tensors | None:
    """Match by position, where kind and shape of every tensor agree and only names differ.

    This loads torchvision's files into timm's models of the same architecture. What the file holds
    after the last tensor of the model is its classifier.
    """
    ours = [(n, t) for n, t in model.state_dict().items() if not n.endswith("num_batches_tracked")]
    theirs = [(n, t) for n, t in tensors.items() if not n.endswith("num_batches_tracked")]
    if len(theirs) < len(ours):
        return None
    first = first_conv_weights(model)
    mapped: dict[str, torch.Tensor] = {}
    for (name, want), (other, have) in zip(ours, theirs, strict=False):
        same_kind = name.rpartition(".")[2] == other.rpartition(".")[2]
        channels_differ = name in first and want.shape[2:] == have.shape[2:]
        if not same_kind or not (want.shape == have.shape or channels_differ):
            return None
        mapped[name] = have
    return mapped | dict(theirs[len(ours) :])
