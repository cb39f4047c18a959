"""A softmax over absent, present and uncertain: against torch, and by hand."""

from __future__ import annotations

import math

import pytest
import torch

from cxr_lightning.losses.base import build_loss
from cxr_lightning.losses.three_class import Config, three_class_loss
from cxr_lightning.losses.weights import LabelCounts
from cxr_lightning.models.network import decision_logits

NAN = math.nan


def test_equals_torchs_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 2, 3, generator=generator)
    targets = torch.tensor([[0.0, 1], [-1, 0], [1, -1], [0, 0], [-1, -1], [1, 1]])
    known = torch.ones(6, 2, dtype=torch.bool)
    known[3, 1] = False
    classes = torch.where(targets == -1, 2, targets).long()
    expected = torch.nn.functional.cross_entropy(logits[known], classes[known])
    torch.testing.assert_close(three_class_loss(logits, targets, known), expected)


def test_by_hand() -> None:
    loss = build_loss(Config(name="three_class"), LabelCounts(torch.ones(2), torch.ones(2)))
    logits = torch.tensor([[[0.0, math.log(2), math.log(5)], [0.0, 0.0, 0.0]]])
    # softmax 1/8, 2/8, 5/8: uncertain costs ln(8/5); of the second label nothing is known
    assert loss(logits, torch.tensor([[-1.0, NAN]])).item() == pytest.approx(math.log(8 / 5))
    # a soft target of 0.7: 0.3 ln 8 + 0.7 ln 4
    soft = 0.3 * math.log(8) + 0.7 * math.log(4)
    assert loss(logits, torch.tensor([[0.7, NAN]])).item() == pytest.approx(soft)


def test_the_uncertain_class_does_not_enter_the_decision() -> None:
    logits = torch.tensor([[[0.0, math.log(3), 7.0]]])
    assert decision_logits(logits).sigmoid().item() == pytest.approx(0.75)
    assert torch.equal(decision_logits(logits[..., 0]), logits[..., 0])
