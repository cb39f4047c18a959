"""Labels: choosing them, and what the uncertainty policies make of -1."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import LabelSpace

SPACE = LabelSpace(("Mass", "Edema"))
RAW = np.array([[1, -1], [0, np.nan], [-1, 0]], dtype=np.float32)
NAN = np.nan


def resolve(policy: str, seed: int = 0) -> np.ndarray:
    return SPACE.resolve(RAW, policy, generator=np.random.default_rng(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("ignore", [[1, NAN], [0, NAN], [NAN, 0]]),
        ("zeros", [[1, 0], [0, NAN], [0, 0]]),
        ("ones", [[1, 1], [0, NAN], [1, 0]]),
    ],
)
def test_policies_by_hand(policy: str, expected: list[list[float]]) -> None:
    np.testing.assert_array_equal(resolve(policy), np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(
    ("policy", "low", "high"), [("zeros_lsr", 0, 0.3), ("ones_lsr", 0.55, 0.85)]
)
def test_smoothed_policies_draw_from_their_range(policy: str, low: float, high: float) -> None:
    raw = np.full((4000, 2), -1.0)
    drawn = SPACE.resolve(raw, policy, generator=np.random.default_rng(0))  # type: ignore[arg-type]
    assert low <= drawn.min() < low + 0.01
    assert high - 0.01 < drawn.max() <= high
    assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.005)


def test_smoothed_policies_leave_certain_and_unknown_labels() -> None:
    resolved = resolve("ones_lsr")
    np.testing.assert_array_equal(resolved[1], [0, NAN])
    assert resolved[0, 0] == 1


def test_draws_are_those_of_the_generator() -> None:
    np.testing.assert_array_equal(resolve("ones_lsr", 3), resolve("ones_lsr", 3))
    assert resolve("ones_lsr", 3)[0, 1] != resolve("ones_lsr", 4)[0, 1]


def test_input_is_not_changed() -> None:
    before = RAW.copy()
    resolve("zeros")
    np.testing.assert_array_equal(RAW, before)


def test_unknown_policy() -> None:
    with pytest.raises(
        ConfigError, match="must be one of ignore, zeros, ones, zeros_lsr, ones_lsr"
    ):
        resolve("maybe")


def test_choose_keeps_the_given_order() -> None:
    assert SPACE.choose(["Edema", "Mass"]).names == ("Edema", "Mass")
    assert SPACE.choose(None) is SPACE
    assert SPACE.choose(["No Finding"], also=["No Finding"]).names == ("No Finding",)


def test_choose_names_every_unknown_label() -> None:
    with pytest.raises(ConfigError) as error:
        SPACE.choose(["Mas", "Mass", "Oedema"])
    assert str(error.value) == (
        "data.labels: not a label of this data set:\n"
        "  - 'Mas'. Did you mean 'Mass'?\n"
        "  - 'Oedema'. Did you mean 'Edema'?\n"
        "Allowed: Mass, Edema"
    )


def test_a_label_named_twice() -> None:
    with pytest.raises(ConfigError, match="named twice: Mass"):
        SPACE.choose(["Mass", "Mass"])
