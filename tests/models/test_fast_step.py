"""The step that trains by default computes what the usual recipe does: loss and gradients.

Ours is one channel, channels_last, bf16; usual is grey repeated to three channels, NCHW, fp32. In
fp32 both are equal but for the order of sums. What bf16 rounds is compared after a few steps: of a
DenseNet-121 with random weights the gradient is so ill-conditioned that rounding its weights alone
to bf16 turns it to a cosine of 0.9, and computing in bf16 to one of 0.8.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from cxr_lightning.config.schema import ImageConfig, ModelConfig
from cxr_lightning.models.network import Network, Normalise, build_network

SIZE, LABELS = 32, ("Effusion", "Mass", "Nodule", "Edema")


def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    grey = torch.rand(8, 1, 8, 8, generator=generator) * 255
    images = F.interpolate(grey, size=(SIZE, SIZE), mode="bilinear").to(torch.uint8)
    return images, torch.randint(0, 2, (8, len(LABELS)), generator=generator).float()


def step(
    network: Network, images: torch.Tensor, targets: torch.Tensor, *, bf16: bool
) -> tuple[float, torch.Tensor]:
    """Return loss and gradient, of equal channels once, as float64."""
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = F.binary_cross_entropy_with_logits(network.outputs(images), targets)
    loss.backward()
    gradients = []
    for parameter in network.parameters():
        assert parameter.grad is not None
        stem = parameter.ndim == 4 and parameter.shape[1] == 3
        gradients.append((parameter.grad[:, :1] if stem else parameter.grad).flatten())
    return loss.item(), torch.cat(gradients).double()


def with_three_channels(network: Network, name: str) -> Network:
    """Return a network of the usual layout that does the same with grey repeated thrice."""
    image = ImageConfig(size=SIZE)
    usual = build_network(ModelConfig(name=name, in_channels=3), image, LABELS)
    usual.normalise = Normalise((image.mean,) * 3, (image.std,) * 3)
    states = usual.state_dict()
    for key, value in network.state_dict().items():
        same = states[key].shape == value.shape
        if not key.startswith("normalise"):
            states[key] = (value if same else value.repeat(1, 3, 1, 1) / 3).contiguous()
    usual.load_state_dict(states)
    return usual


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_the_fast_step_is_the_usual_one(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    ours = build_network(ModelConfig(name=name), ImageConfig(size=SIZE), LABELS)
    ours = ours.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(ours.parameters(), 1e-2)
    images, targets = batch(generator)
    for _ in range(4):
        step(ours, images, targets, bf16=True)
        optimizer.step()

    unseen = batch(generator)
    loss, gradient = step(with_three_channels(ours, name), *unseen, bf16=False)
    for bf16, of_loss, of_gradient in ((False, 1e-5, 1e-8), (True, 0.01, 0.01)):
        found_loss, found = step(copy.deepcopy(ours), *unseen, bf16=bf16)
        assert found_loss == pytest.approx(loss, rel=of_loss)
        assert F.cosine_similarity(found, gradient, dim=0) > 1 - of_gradient
        assert found.norm().item() == pytest.approx(gradient.norm().item(), rel=of_loss)
