"""Configuration: composition, overrides, round trips, and messages in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_lightning.config.compose import compose, config_from_file, config_to_yaml
from cxr_lightning.config.groups import GROUPS, choices, group_description, shipped_conf
from cxr_lightning.errors import ConfigError

CHOICES = [(group, name) for group in GROUPS for name in choices(group, [shipped_conf()])]


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    return str(error.value)


def test_defaults_are_the_phantom() -> None:
    config = compose()
    assert (config.data.name, config.model.name, config.loss.name) == (
        "phantom",
        "simple_cnn",
        "bce",
    )


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_survives_a_round_trip(
    group: str, name: str, tmp_path: Path
) -> None:
    # The one choice that is nothing without another.
    partner = ["data.uncertain=three_class"] if name == "three_class" else []
    config = compose([f"{group}={name}", *partner])
    file = tmp_path / "config.yaml"
    file.write_text(config_to_yaml(config))
    assert config_from_file(file) == config
    assert compose(config_file=file) == config


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_says_what_it_is(group: str, name: str) -> None:
    assert group_description(choices(group, [shipped_conf()])[name])


def test_values_and_choices_together() -> None:
    config = compose(
        ["loss=focal", "loss.gamma=1.5", "optim.lr=3e-4", "data.labels=[No Finding,Mass]"]
    )
    assert config.loss.gamma == 1.5  # type: ignore[attr-defined]
    assert config.optim.lr == 3e-4
    assert config.data.labels == ("No Finding", "Mass")


def test_keys_that_no_file_mentions_can_be_set() -> None:
    assert compose(["data.max_patients=50"]).data.max_patients == 50
    assert compose(["trainer.limit_train_batches=3"]).trainer.lightning_options == {
        "limit_train_batches": 3
    }


def test_any_timm_or_torchvision_name_is_a_model() -> None:
    assert compose(["model=convnext_atto"]).model.name == "convnext_atto"
    assert (
        compose(["model=torchvision/vgg11", "model.pooling=max"]).model.name == "torchvision/vgg11"
    )


@pytest.mark.parametrize("path", ["/data/a b/c", "/data/x=(1)", "../nih", "C:/x"])
def test_paths_are_taken_as_they_are(path: str) -> None:
    assert compose(["data=nih", f"data.root={path}"]).data.root == Path(path)


@settings(max_examples=30)
@given(st.floats(1e-6, 1.0))
def test_numbers_survive(lr: float) -> None:
    assert compose([f"optim.lr={lr!r}"]).optim.lr == lr


def test_a_folder_of_ones_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# Mine.\nname: focal\ngamma: 3\n")
    (tmp_path / "loss" / "focal.yaml").write_text("# Mine too.\nname: focal\ngamma: 4\n")
    assert compose(["loss=mine"], config_dir=tmp_path).loss.gamma == 3  # type: ignore[attr-defined]
    assert compose(["loss=focal"], config_dir=tmp_path).loss.gamma == 4  # type: ignore[attr-defined]
    assert compose(["loss=focal"]).loss.gamma == 2  # type: ignore[attr-defined]


def test_an_experiment_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "small.yaml").write_text(
        "# @package _global_\n# Small.\ndefaults:\n  - override /loss: focal\n"
        "trainer:\n  max_epochs: 2\n"
    )
    config = compose(["experiment=small", "optim.lr=0.1"], config_dir=tmp_path)
    assert (config.loss.name, config.trainer.max_epochs, config.optim.lr) == ("focal", 2, 0.1)


def test_a_group_can_be_exchanged_in_a_resolved_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(config_to_yaml(compose(["optim.lr=0.02"])))
    config = compose(["loss=focal", "seed=5"], config_file=file)
    assert (config.loss.name, config.optim.lr, config.seed) == ("focal", 0.02, 5)


class TestMessages:
    @pytest.mark.parametrize(
        "words",
        [
            ["evaluation.threshold=sensitivity"],
            ["evaluation.threshold_target=0.9"],
            ["evaluation.threshold=cost"],
            ["evaluation.false_negative_cost=5", "evaluation.threshold=youden"],
        ],
    )
    def test_a_threshold_rule_without_what_it_needs(self, words: list[str]) -> None:
        assert "give both or neither" in message(*words)

    def test_unknown_choice(self) -> None:
        text = message("data=nhi")
        assert text.startswith("data=nhi: there is no such choice. Did you mean 'nih'?\n")
        assert "  - phantom" in text

    def test_unknown_key_names_the_nearest_and_all(self) -> None:
        text = message("optim.lrr=3")
        assert "optim.lrr (command line): no such key. Did you mean 'lr'? optim has: " in text

    def test_unknown_group(self) -> None:
        assert "mode (command line): no such key. Did you mean 'model'?" in message("mode=x")

    def test_unknown_trainer_option(self) -> None:
        assert (
            "trainer.max_epoch=3: neither a field of trainer nor an option of Lightning's Trainer. "
            "Did you mean 'max_epochs'?" in message("trainer.max_epoch=3")
        )

    def test_out_of_range_says_the_range_and_the_meaning(self) -> None:
        assert (
            "optim.lr=-1 (command line): must be greater than 0. (Learning rate of the head.)"
            in message("optim.lr=-1")
        )

    def test_wrong_word_names_the_allowed_ones(self) -> None:
        text = message("data.views=[PA,LAT]")
        assert "data.views.1=LAT (command line): must be one of 'PA', 'AP', 'LATERAL'" in text

    def test_wrong_type(self) -> None:
        assert "trainer.max_epochs=many (command line): must be a whole number" in message(
            "trainer.max_epochs=many"
        )

    def test_all_problems_at_once(self) -> None:
        text = message("loss=focal", "loss.gamma=-1", "data.rot=4", "optim.name=adamx")
        assert text.startswith("3 problems in the configuration\n")
        for part in ("loss.gamma", "data.rot", "optim.name"):
            assert part in text

    def test_a_list_without_brackets(self) -> None:
        assert message("data.labels=Mass,Nodule") == (
            "'data.labels=Mass,Nodule': one value is expected; a list is written "
            "data.labels=[Mass,Nodule]"
        )

    def test_braces_that_the_shell_took(self) -> None:
        words = ["data=chexpert", "data.uncertain=Edema:ones", "data.uncertain=Fracture:zeros"]
        with pytest.raises(ConfigError) as error:
            compose(words)
        assert str(error.value) == (
            "data.uncertain={Edema:ones,Fracture:zeros} was made several words by the shell: put "
            "it in quotes"
        )

    def test_not_an_override(self) -> None:
        assert "'--gpu' is not understood: write GROUP=CHOICE or KEY=VALUE" in message("--gpu")

    def test_contradicting_values(self) -> None:
        text = message("data.val_fraction=0.5", "data.test_fraction=0.5")
        assert "leave nothing to train on; their sum must be below 1" in text

    def test_a_value_is_not_a_section(self) -> None:
        assert "seed is a value, not a section" in message("seed.x=1")

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no such configuration file"):
            compose(config_file=tmp_path / "none.yaml")
        with pytest.raises(ConfigError, match="there is no such folder"):
            compose(config_dir=tmp_path / "none")

    def test_a_file_that_is_not_yaml(self, tmp_path: Path) -> None:
        file = tmp_path / "config.yaml"
        file.write_text("a: [1\n")
        with pytest.raises(ConfigError, match="is not YAML"):
            compose(config_file=file)

    def test_a_file_without_a_section(self, tmp_path: Path) -> None:
        file = tmp_path / "config.yaml"
        text = config_to_yaml(compose())
        file.write_text(text.replace("loss:\n  name: bce\n", "loss:\n"))
        with pytest.raises(ConfigError, match=r"loss\.name: required; it names the module"):
            compose(config_file=file)


def test_a_key_of_another_loss_says_whose_it_is() -> None:
    with pytest.raises(ConfigError, match=r"loss\.gamma .*It belongs to loss=focal"):
        compose(["loss.gamma=2"])
