"""Augmentation: by address alone, each transform with a stream of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.config.schema import AugmentConfig
from cxr_lightning.data.transforms import Augmentation, sample_keys
from cxr_lightning.errors import ConfigError

POLICIES = sorted(choices("augment", [shipped_conf()]).items())
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
KEYS = sample_keys([f"{i}.png" for i in range(50)])


def policy(file: Path) -> AugmentConfig:
    return AugmentConfig.model_validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(("name", "file"), POLICIES)
class TestContract:
    def test_depends_on_the_address_alone(self, name: str, file: Path) -> None:
        one, other = (Augmentation(policy(file), seed=1) for _ in range(2))
        forwards = [one(IMAGE, epoch=2, key=key) for key in KEYS]
        backwards = [other(IMAGE, epoch=2, key=key) for key in KEYS[::-1]][::-1]
        np.testing.assert_array_equal(forwards, backwards)

    def test_keeps_shape_type_and_input(self, name: str, file: Path) -> None:
        before = IMAGE.copy()
        augmented = Augmentation(policy(file), seed=1)(IMAGE, epoch=0, key=KEYS[0])
        assert (augmented.shape, augmented.dtype) == (IMAGE.shape, np.uint8)
        assert augmented.flags.c_contiguous
        np.testing.assert_array_equal(IMAGE, before)

    def test_differs_between_epochs_samples_and_seeds(self, name: str, file: Path) -> None:
        if name == "none":
            pytest.skip("this policy changes nothing")
        config = policy(file)
        base = Augmentation(config, seed=1)

        def differs(augmentation: Augmentation, epoch: int, shift: int) -> int:
            return sum(
                (augmentation(IMAGE, epoch=epoch, key=KEYS[(i + shift) % 50])
                 != base(IMAGE, epoch=0, key=KEYS[i])).any()
                for i in range(20)
            )  # fmt: skip

        assert differs(base, 1, 0) > 15
        assert differs(base, 0, 1) > 15
        assert differs(Augmentation(config, seed=2), 0, 0) > 15

    def test_does_not_mirror(self, name: str, file: Path) -> None:
        assert policy(file).horizontal_flip == 0


def test_transforms_do_not_share_their_stream() -> None:
    # Both have p=0.5; with one seed for all they would always act together.
    config = AugmentConfig.model_validate(
        {
            "name": "two",
            "transforms": [
                {"name": "HorizontalFlip", "p": 0.5},
                {"name": "InvertImg", "p": 0.5},
            ],
        }
    )
    image = np.zeros((4, 4), dtype=np.uint8)
    image[:, 0] = 1
    augmentation = Augmentation(config, seed=0)
    seen = set()
    for epoch in range(40):
        out = augmentation(image, epoch=epoch, key=KEYS[0])
        seen.add((bool(out[0, 0] in (0, 255)), bool(out.max() > 200)))
    assert len(seen) == 4


def test_flip_is_there_when_asked_for() -> None:
    config = AugmentConfig(name="flip", horizontal_flip=1.0)
    flipped = Augmentation(config, seed=0)(IMAGE, epoch=0, key=KEYS[0])
    np.testing.assert_array_equal(flipped, IMAGE[:, ::-1])


def test_keys_are_stable() -> None:
    # Recorded: a change here would silently change every run's augmentation.
    assert sample_keys(["00000001_000.png"]).tolist() == [18051944544639466426]
    assert len(set(KEYS.tolist())) == 50


def test_all_mistakes_are_reported_at_once() -> None:
    config = AugmentConfig.model_validate(
        {"name": "bad", "transforms": [{"name": "Afine"}, {"name": "Affine", "rotat": 3}]}
    )
    with pytest.raises(ConfigError) as error:
        Augmentation(config, seed=0)
    assert str(error.value) == (
        "augment: 2 problem(s)\n"
        "  - 'Afine' is not a transform of albumentations. Did you mean 'Affine'?\n"
        "  - Affine: Argument(s) 'rotat' are not valid for transform Affine"
    )


def test_a_crop_of_the_images_own_size_is_allowed() -> None:
    crop = {"name": "RandomResizedCrop", "size": [32, 32], "scale": [0.5, 0.9]}
    config = AugmentConfig.model_validate({"name": "crop", "transforms": [crop]})
    assert Augmentation(config, seed=0, size=32)(IMAGE[:32, :32], epoch=0, key=KEYS[0]).shape == (
        32,
        32,
    )
    with pytest.raises(ConfigError, match="must keep size and type"):
        Augmentation(config, seed=0, size=64)


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ({"name": "RandomCrop", "height": 48, "width": 48}, "must keep size and type"),
        ({"name": "ToFloat"}, "into float32"),
        ({"name": "RandomFog"}, "RandomFog: "),
        ({"name": "Mosaic"}, "Mosaic: "),
    ],
)
def test_transforms_that_do_not_suit_a_grey_picture(transform: dict, said: str) -> None:  # type: ignore[type-arg]
    config = AugmentConfig.model_validate({"name": "bad", "transforms": [transform]})
    with pytest.raises(ConfigError) as error:
        Augmentation(config, seed=0)
    assert said in str(error.value)
