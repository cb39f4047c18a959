"""Labels: choosing them, and what the uncertainty policies make of -1."""

from __future__ import annotations

import numpy as np
import pytest

from cxr_lightning.errors import ConfigError
from cxr_lightning.labels import LabelSpace

SPACE = LabelSpace(("Mass", "Edema"))
RAW = np.array([[1, -1], [0, np.nan], [-1, 0]], dtype=np.float32)
NAN = np.nan


FIRST = np.array([[0.9, 0.25], [0.9, 0.9], [NAN, 0.9]])


def resolve(*policies: str) -> np.ndarray:
    return SPACE.resolve(RAW, policies, first_model=FIRST)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("ignore", [[1, NAN], [0, NAN], [NAN, 0]]),
        ("zeros", [[1, 0], [0, NAN], [0, 0]]),
        ("ones", [[1, 1], [0, NAN], [1, 0]]),
        ("self_trained", [[1, 0.25], [0, NAN], [NAN, 0]]),
        # decided later: by a draw, by a class of its own
        ("zeros_lsr", [[1, -1], [0, NAN], [-1, 0]]),
        ("ones_lsr", [[1, -1], [0, NAN], [-1, 0]]),
        ("three_class", [[1, -1], [0, NAN], [-1, 0]]),
    ],
)
def test_policies_by_hand(policy: str, expected: list[list[float]]) -> None:
    np.testing.assert_array_equal(resolve(policy, policy), np.array(expected, dtype=np.float32))


def test_every_label_has_its_own_policy() -> None:
    assert SPACE.policies({"Edema": "ones"}) == ("ignore", "ones")
    assert SPACE.policies("zeros") == ("zeros", "zeros")
    np.testing.assert_array_equal(resolve("ignore", "ones"), [[1, 1], [0, NAN], [NAN, 0]])


def test_a_policy_for_a_label_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as error:
        SPACE.policies({"Oedema": "ones"})
    assert str(error.value) == (
        "data.uncertain: not one of the chosen labels:\n"
        "  - 'Oedema'. Did you mean 'Edema'?\n"
        "Allowed: Mass, Edema"
    )


def test_input_is_not_changed() -> None:
    before = RAW.copy()
    resolve("zeros", "ones")
    np.testing.assert_array_equal(RAW, before)


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
