"""Losses against torch, torchvision and cases worked out by hand; masking for all of them."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

import cxr_lightning.losses
from cxr_lightning.errors import ConfigError
from cxr_lightning.losses import bce, focal
from cxr_lightning.losses.asymmetric import asymmetric_loss
from cxr_lightning.losses.base import build_loss
from cxr_lightning.losses.masked import masked_mean, mean_of_labels
from cxr_lightning.losses.weights import LabelCounts, frequency_weights, positive_weight

NAMES = sorted(
    file.stem
    for file in Path(cxr_lightning.losses.__path__[0]).glob("*.py")
    if "\nclass Config(" in file.read_text()
)
COUNTS = LabelCounts(torch.tensor([10.0, 50.0, 1.0]), torch.tensor([90.0, 50.0, 99.0]))
NAN = math.nan


def a_loss(name: str):  # type: ignore[no-untyped-def]
    """Return a loss of logits (batch, labels), whatever it takes."""
    module = importlib.import_module(f"cxr_lightning.losses.{name}")
    config = module.Config(name=name)
    loss = build_loss(config, COUNTS)
    if config.classes == 1:
        return loss
    return lambda logits, targets: loss(
        torch.stack([torch.zeros_like(logits), logits, torch.zeros_like(logits)], -1), targets
    )


def a_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, 3, generator=generator) * 3
    targets = torch.randint(0, 2, (8, 3), generator=generator).float()
    return logits, targets


def test_the_contract_finds_all_losses() -> None:
    assert {"asymmetric", "bce", "focal", "three_class"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_unknown_labels_have_no_gradient(self, name: str) -> None:
        logits, targets = a_batch()
        targets[0, 0] = targets[3] = NAN
        logits.requires_grad_()
        a_loss(name)(logits, targets).backward()
        assert logits.grad is not None
        assert (logits.grad[targets.isnan()] == 0).all()
        assert (logits.grad[~targets.isnan()] != 0).any()

    def test_what_is_unknown_does_not_change_the_value(self, name: str) -> None:
        logits, targets = a_batch()
        targets[2, 1] = NAN
        changed = logits.clone()
        changed[2, 1] = 1e4
        loss = a_loss(name)
        assert torch.equal(loss(logits, targets), loss(changed, targets))

    def test_a_batch_without_known_labels_is_zero_and_has_a_gradient(self, name: str) -> None:
        logits = torch.randn(4, 3, requires_grad=True)
        loss = a_loss(name)(logits, torch.full((4, 3), NAN))
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(logits.grad, torch.zeros(4, 3))

    def test_extreme_logits_stay_finite(self, name: str) -> None:
        logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
        loss = a_loss(name)(logits, torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()

    def test_the_right_answer_costs_less_than_the_wrong_one(self, name: str) -> None:
        _, targets = a_batch()
        right = (targets * 2 - 1) * 3
        loss = a_loss(name)
        assert loss(right, targets) < loss(-right, targets)

    def test_computes_in_float32_under_autocast(self, name: str) -> None:
        logits, targets = a_batch()
        with torch.autocast("cpu", torch.bfloat16):
            assert a_loss(name)(logits.bfloat16(), targets).dtype == torch.float32

    def test_has_a_configuration_file(self, name: str) -> None:
        files = (Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml")
        assert any(f"name: {name}\n" in file.read_text() for file in files)


@pytest.mark.parametrize("average", ["entries", "labels"])
def test_the_parts_of_a_batch_add_up(average: str) -> None:
    """As on two devices, of which each knows other labels."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=draw)
    targets = torch.randint(0, 2, (12, 3), generator=draw).float()
    targets[:5, 0] = targets[4:, 2] = NAN
    config = bce.Config.model_validate(
        {"name": "bce", "weighting": "frequency", "average": average}
    )
    loss = build_loss(config, COUNTS)
    known = (~targets.isnan()).sum(dim=0)
    parts = [loss(logits[part], targets[part], known) for part in (slice(0, 6), slice(6, 12))]
    torch.testing.assert_close(sum(parts), loss(logits, targets))


def test_masked_mean_by_hand() -> None:
    known = torch.tensor([[True, False], [True, True]])
    assert masked_mean(torch.tensor([[1.0, 100.0], [2.0, 6.0]]), known) == 3.0


def test_bce_equals_torch() -> None:
    logits, targets = a_batch()
    loss = bce.bce_loss(logits, targets, torch.ones_like(targets, dtype=torch.bool))
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(logits, targets))


def test_bce_with_positive_weight_equals_torch() -> None:
    logits, targets = a_batch()
    loss = build_loss(bce.Config(name="bce", weighting="pos_weight"), COUNTS)
    expected = binary_cross_entropy_with_logits(
        logits, targets, pos_weight=torch.tensor([9.0, 1.0, 99.0])
    )
    torch.testing.assert_close(loss(logits, targets), expected)


def test_frequency_weights_by_hand() -> None:
    # 10 of 100 positive: each positive counts 2 * 0.9, each negative 2 * 0.1.
    positive, negative = frequency_weights(COUNTS)
    torch.testing.assert_close(positive, torch.tensor([1.8, 1.0, 1.98]))
    torch.testing.assert_close(negative, torch.tensor([0.2, 1.0, 0.02]))


def test_frequency_weighted_bce_by_hand() -> None:
    loss = build_loss(bce.Config(name="bce", weighting="frequency"), COUNTS)
    # logit 0 costs ln 2 everywhere; known: a positive of label 0, a negative of label 2.
    value = loss(torch.zeros(1, 3), torch.tensor([[1.0, NAN, 0.0]]))
    assert value.item() == pytest.approx(math.log(2) * (1.8 + 0.02) / 2)


@given(positives=st.integers(1, 999), negatives=st.integers(1, 999))
def test_frequency_weights_balance_the_classes(positives: int, negatives: int) -> None:
    counts = LabelCounts(
        torch.tensor([positives], dtype=torch.float64),
        torch.tensor([negatives], dtype=torch.float64),
    )
    positive, negative = frequency_weights(counts)
    torch.testing.assert_close(positive * positives, negative * negatives)


def test_weights_can_be_capped() -> None:
    assert positive_weight(COUNTS, cap=20).tolist() == [9, 1, 20]


def test_weights_of_a_label_without_positives_are_one() -> None:
    none = LabelCounts(torch.tensor([0.0]), torch.tensor([0.0]))
    assert positive_weight(none).tolist() == [1]
    assert [w.tolist() for w in frequency_weights(none)] == [[1], [1]]


def test_label_smoothing_by_hand() -> None:
    loss = build_loss(bce.Config(name="bce", label_smoothing=0.2), COUNTS)
    expected = -(0.9 * math.log(1 / (1 + math.exp(-2))) + 0.1 * math.log(1 / (1 + math.exp(2))))
    value = loss(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[1.0, NAN, NAN]]))
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_equals_torchvision(gamma: float, alpha: float | None) -> None:
    logits, targets = a_batch()
    loss = build_loss(focal.Config(name="focal", gamma=gamma, alpha=alpha), COUNTS)
    expected = sigmoid_focal_loss(
        logits, targets, alpha=-1 if alpha is None else alpha, gamma=gamma, reduction="mean"
    )
    torch.testing.assert_close(loss(logits, targets), expected, rtol=1e-4, atol=1e-6)


def test_focal_alpha_per_label_by_hand() -> None:
    loss = build_loss(focal.Config(name="focal", gamma=2, alpha=(0.9, 0.5, 0.1)), COUNTS)
    # At logit 0: (1/2)^2 ln 2, times alpha for the positive of label 0.
    value = loss(torch.zeros(1, 3), torch.tensor([[1.0, NAN, NAN]]))
    assert value.item() == pytest.approx(0.9 * 0.25 * math.log(2))


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        ((0.1, 0.2), "loss.alpha: 2 numbers for 3 labels; give one per label"),
        (1.5, "loss.alpha=1.5: must lie in [0, 1]"),
        ("often", "loss.alpha='often': must be a number, a list of numbers, or 'frequency'"),
    ],
)
def test_focal_alpha_errors(alpha: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_loss(focal.Config(name="focal", alpha=alpha), COUNTS)
    assert str(error.value) == message


def test_asymmetric_without_asymmetry_is_bce() -> None:
    logits, targets = a_batch()
    known = torch.ones_like(targets, dtype=torch.bool)
    loss = asymmetric_loss(logits, targets, known, gamma_positive=0, gamma_negative=0, margin=0)
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(logits, targets))


def test_asymmetric_by_hand() -> None:
    # p = 1/2, margin 0.1, gamma 2: -(0.4^2) ln 0.6 for a negative.
    loss = asymmetric_loss(
        torch.zeros(1, 1),
        torch.zeros(1, 1),
        torch.ones(1, 1, dtype=torch.bool),
        gamma_positive=1,
        gamma_negative=2,
        margin=0.1,
    )
    assert loss.item() == pytest.approx(-(0.4**2) * math.log(0.6))


class TestAverage:
    """One loss per label, averaged, against the mean over all known entries."""

    def test_by_hand(self) -> None:
        terms = torch.tensor([[1.0, 10.0, 7.0], [3.0, 20.0, 7.0]], requires_grad=True)
        known = torch.tensor([[True, True, False], [True, False, False]])
        assert masked_mean(terms, known).item() == pytest.approx((1 + 3 + 10) / 3)
        # (1 + 3) / 2 and 10; the third label is not known at all
        found = mean_of_labels(terms, known)
        assert found.item() == pytest.approx((2 + 10) / 2)
        found.backward()
        expected = [[0.25, 0.5, 0.0], [0.25, 0.0, 0.0]]
        torch.testing.assert_close(terms.grad, torch.tensor(expected))

    def test_nothing_known(self) -> None:
        terms = torch.ones(2, 3, requires_grad=True)
        mean_of_labels(terms, torch.zeros(2, 3, dtype=torch.bool)).backward()
        assert terms.grad is not None
        assert not terms.grad.any()

    def test_the_option(self) -> None:
        logits, targets = a_batch()
        targets[1:, 0] = NAN
        by_label = [
            binary_cross_entropy_with_logits(logits[:1, 0], targets[:1, 0]),
            *(binary_cross_entropy_with_logits(logits[:, i], targets[:, i]) for i in (1, 2)),
        ]
        loss = build_loss(bce.Config(name="bce", average="labels"), COUNTS)
        torch.testing.assert_close(loss(logits, targets), torch.stack(by_label).mean())
        entries = build_loss(bce.Config(name="bce"), COUNTS)(logits, targets)
        assert abs(entries.item() - loss(logits, targets).item()) > 1e-3
