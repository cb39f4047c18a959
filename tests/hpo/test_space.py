"""Spaces: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_lightning.config.compose import compose
from cxr_lightning.config.groups import choices, shipped_conf
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.baseline import baseline
from cxr_lightning.hpo.check import Composer, checked_configurations, coverage
from cxr_lightning.hpo.reading import Reading, read_space
from cxr_lightning.hpo.samplers import grid_points
from cxr_lightning.hpo.space import Space, plain, suggest_overrides, word

Spaces = Callable[..., Path]
SHIPPED = sorted(choices("sweep", [shipped_conf()]))


def read(folder: Path, text: str, *words: str) -> Reading:
    (folder / "sweep").mkdir(parents=True, exist_ok=True)
    (folder / "sweep" / "mine.yaml").write_text(text, encoding="utf-8")
    return read_space(["sweep=mine", *words], config_dir=folder)


def checked(folder: Path, text: str, *words: str) -> Composer:
    composer = Composer(read(folder, text, *words), config_dir=folder)
    checked_configurations(composer)
    return composer


def refused(folder: Path, text: str, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(folder, text, *words)
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_spaces_hold_against_the_schema(name: str) -> None:
    composer = Composer(read_space([f"sweep={name}"]))
    assert checked_configurations(composer)


def test_the_shipped_spaces_are_those_that_are_promised() -> None:
    promised = {"default", "backbones", "losses", "augment", "finetune", "pareto", "focal_vs_bce"}
    assert promised <= set(SHIPPED)


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"sweep=defualt: there is no such choice\. Did you mean"):
        read_space(["sweep=defualt"])


class TestProblems:
    """One message names everything that is wrong, each thing with its place."""

    def test_all_at_once(self, tmp_path: Path) -> None:
        text = """
        pruner: {name: medain}
        parameters:
          optim.lr: {type: float, low: 1, high: 0.1}
          loss: {type: categorical, choices: [bce, bce]}
          seed: {type: inte, low: 1, high: 2}
          optim.momentum: {type: float, low: 0.5, hihg: 0.9}
        """
        said = refused(tmp_path, text)
        assert said.startswith("6 problems in sweep=mine (")
        assert "pruner.name=medain: must be one of" in said
        assert "Did you mean 'median'?" in said
        assert "parameters.optim.lr: low (1) is above high (0.1)" in said
        assert "parameters.loss: choices has bce more than once" in said
        assert "parameters.seed.type=inte: must be one of float, int, categorical." in said
        assert "parameters.optim.momentum.hihg: no such key. Did you mean 'high'?" in said
        assert "parameters.optim.momentum.high: required" in said

    def test_fields_and_bounds_are_held_against_the_schema(self, tmp_path: Path) -> None:
        text = """
        budget: {trainer.max_epoch: 2}
        parameters:
          optim.lrr: {type: float, low: 0.1, high: 0.2}
          optim.lr: {type: float, low: 0.1, high: 100}
          data.batch_size: {type: categorical, choices: [16, many]}
          loss: {type: categorical, choices: [bce, focl]}
        """
        said = refused(tmp_path, text)
        assert "optim.lrr (low in sweep=mine): no such key. Did you mean 'lr'?" in said
        assert "optim.lr=100.0 (high in sweep=mine): must be less than or equal to 10" in said
        assert "data.batch_size=many (a choice in sweep=mine): must be a whole number" in said
        assert "loss=focl: there is no such choice. Did you mean 'focal'?" in said

    def test_a_field_of_one_choice_needs_a_condition(self, tmp_path: Path) -> None:
        text = """
        parameters:
          loss: {type: categorical, choices: [bce, focal]}
          loss.gamma: {type: float, low: 0.5, high: 3}
        """
        assert "loss.gamma (low in sweep=mine): no such key." in refused(tmp_path, text)

    @pytest.mark.parametrize(
        ("when", "said"),
        [
            ("{lss: focal}", "when.lss: not a parameter of this space. Did you mean 'loss'?"),
            ("{loss: focl}", "when.loss=focl: never a value of loss. Did you mean 'focal'?"),
            ("{optim.lr: 0.1}", "when.optim.lr: optim.lr is a range"),
            ("{augment: none}", "the conditions of augment, loss.gamma wait for one another"),
        ],
    )
    def test_conditions(self, tmp_path: Path, when: str, said: str) -> None:
        text = f"""
        parameters:
          optim.lr: {{type: float, low: 0.1, high: 0.2}}
          loss: {{type: categorical, choices: [bce, focal]}}
          loss.gamma: {{type: int, low: 1, high: 3, when: {when}}}
          augment: {{type: categorical, choices: [none], when: {{loss.gamma: 1}}}}
        """
        assert said in refused(tmp_path, text)

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("objective: {test/auroc_macro: maximize}", "never reads the test set; use val/auroc"),
            ("objective: {auroc_macro: maximize}", "must be a validation metric"),
            ("objective: {val/auroc/Mass: maximize}", "is not measured every epoch"),
            (
                "objective: {val/auroc_macro: maximize, latency_ms: minimize}",
                "several objectives cannot be pruned",
            ),
            ("sampler: {name: grid}", "parameters.optim.lr: a grid needs values"),
            ("fixed: {optim.lr: 0.1}", "parameters.optim.lr: set by fixed as well"),
        ],
    )
    def test_objective_sampler_and_fixed(self, tmp_path: Path, line: str, said: str) -> None:
        text = f"{line}\nparameters:\n  optim.lr: {{type: float, low: 0.1, high: 0.2}}\n"
        assert said in refused(tmp_path, text)

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("data", "the group data cannot vary within a study"),
            ("data.split_seed", "trials on other images cannot be compared"),
            ("run.name", "where a run is kept"),
            ("trainer.devices", "what a trial runs on is the same for all"),
        ],
    )
    def test_what_cannot_vary(self, tmp_path: Path, name: str, said: str) -> None:
        text = f"parameters:\n  {name}: {{type: categorical, choices: [1, 2]}}\n"
        assert said in refused(tmp_path, text)

    def test_of_the_command_line_are_those_of_fit(self, tmp_path: Path) -> None:
        text = "parameters:\n  optim.lr: {type: float, low: 0.1, high: 0.2}\n"
        composer = Composer(read(tmp_path, text, "loss.gama=1"), config_dir=tmp_path)
        with pytest.raises(ConfigError) as ours:
            composer.full([])
        with pytest.raises(ConfigError) as theirs:
            compose(["loss.gama=1"])
        assert str(ours.value) == str(theirs.value)


class TestMeaning:
    def test_conditions_decide_what_is_asked_for(self, spaces: Spaces) -> None:
        space = read_space(["sweep=small"], config_dir=spaces()).space
        fixed = {"optim.lr": 1e-3, "loss": "focal", "loss.gamma": 2.0}
        words = suggest_overrides(optuna.trial.FixedTrial(fixed), space)
        assert words == ["optim.lr=0.001", "loss=focal", "loss.gamma=2.0"]
        words = suggest_overrides(optuna.trial.FixedTrial(fixed | {"loss": "bce"}), space)
        assert words == ["optim.lr=0.001", "loss=bce"]

    def test_the_command_line_fixes_a_parameter(self, spaces: Spaces) -> None:
        reading = read_space(["sweep=small", "loss=focal"], config_dir=spaces())
        assert list(reading.space.parameters) == ["optim.lr", "loss.gamma"]
        trial = optuna.trial.FixedTrial({"optim.lr": 0.01, "loss.gamma": 1.0})
        assert suggest_overrides(trial, reading.space) == ["optim.lr=0.01", "loss.gamma=1.0"]
        reading = read_space(["sweep=small", "loss=bce"], config_dir=spaces())
        assert suggest_overrides(trial, reading.space) == ["optim.lr=0.01"]

    def test_a_space_that_is_fixed_as_a_whole_is_refused(self, tmp_path: Path) -> None:
        text = "parameters:\n  optim.lr: {type: float, low: 0.1, high: 0.2}\n"
        assert "nothing is left to vary" in refused(tmp_path, text, "optim.lr=0.1")

    def test_budget_is_for_trials_and_fixed_for_all(self, tmp_path: Path) -> None:
        text = """
        objective: {val/loss: minimize}
        fixed: {model: resnet18, optim.weight_decay: 0}
        budget: {trainer.max_epochs: 3}
        parameters:
          optim.lr: {type: float, low: 0.1, high: 0.2}
        """
        composer = checked(tmp_path, text, "trainer.max_epochs=7", "optim.weight_decay=0.5")
        trial, full = composer.trial(["optim.lr=0.15"]), composer.full(["optim.lr=0.15"])
        # The command line wins, over a budget too.
        assert trial.trainer.max_epochs == full.trainer.max_epochs == 7
        assert trial.optim.weight_decay == full.optim.weight_decay == 0.5
        composer = checked(tmp_path, text)
        assert composer.trial([]).trainer.max_epochs == 3
        assert composer.full([]).trainer.max_epochs == 20
        assert composer.full([]).model.name == "resnet18"
        # The epoch that is kept is the best by what is sought.
        assert composer.full([]).trainer.monitor == "val/loss"

    def test_fields_of_the_space_can_be_set(self, spaces: Spaces) -> None:
        words = ["sweep=small", "sweep.sampler.name=random", "sweep.budget={trainer.max_epochs: 9}"]
        space = read_space(words, config_dir=spaces()).space
        assert space.sampler.name == "random"
        assert space.budget == {"trainer.max_epochs": 9}

    def test_a_grid_has_each_active_combination_once(self, tmp_path: Path) -> None:
        text = """
        sampler: {name: grid}
        pruner: {name: none}
        parameters:
          loss.gamma: {type: float, low: 1, high: 2, step: 0.5, when: {loss: focal}}
          loss: {type: categorical, choices: [bce, focal]}
          seed: {type: int, low: 1, high: 2}
        """
        points = list(grid_points(checked(tmp_path, text).reading.space))
        assert points == [
            {"loss": "bce", "seed": 1}, {"loss": "bce", "seed": 2},
            *({"loss": "focal", "seed": seed, "loss.gamma": gamma}
              for seed in (1, 2) for gamma in (1.0, 1.5, 2.0)),
        ]  # fmt: skip

    def test_the_configuration_it_starts_from_is_a_point(self, tmp_path: Path) -> None:
        text = """
        parameters:
          optim.lr: {type: float, low: 1.0e-4, high: 0.1, log: true}
          loss: {type: categorical, choices: [focal, bce, weighted_bce]}
          loss.gamma: {type: float, low: 1, high: 2, when: {loss: focal}}
          augment: {type: categorical, choices: [none, standard]}
        """
        point = baseline(checked(tmp_path, text))
        assert point == {"optim.lr": 1e-3, "loss": "weighted_bce", "augment": "standard"}
        assert baseline(checked(tmp_path, text, "optim.weight_decay=0.3")) == point
        outside = text.replace("high: 0.1,", "high: 5.0e-4,")
        assert baseline(checked(tmp_path, outside)) is None

    def test_coverage_meets_every_bound_and_choice(self) -> None:
        space = read_space(["sweep=default"]).space
        met: dict[str, set[str]] = {}
        for assignment in coverage(space):
            for name, value in assignment.items():
                met.setdefault(name, set()).add(plain(value))
        for name, spec in space.parameters.items():
            bounds = getattr(spec, "choices", None) or (spec.low, spec.high)  # type: ignore[union-attr]
            assert met[name] == {plain(one) for one in bounds}


@settings(max_examples=30)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-99, 99) | st.text("aB1 _,:'\\[]{}", max_size=6),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ).filter(lambda value: not isinstance(value, str) or value[:1] not in ("[", "{"))
)
def test_words_mean_their_value(value: object) -> None:
    """What is written for the command line is read back as it was."""
    from cxr_lightning.config.compose import parse_overrides

    _, values = parse_overrides([word("a.key", value)], [shipped_conf()])
    assert is_same(values["a.key"], value)


def is_same(found: object, value: object) -> bool:
    if isinstance(value, list):
        return (
            isinstance(found, list) and len(found) == len(value) and all(map(is_same, found, value))
        )
    # A text that looks like a number or a truth value is one on the command line, too.
    text = isinstance(value, str)
    return found == value or (text and str(found).lower() in (str(value).lower(), "none"))


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_what_is_suggested_composes(seed: int) -> None:
    reading = read_space(["sweep=default"])
    composer = Composer(reading)
    sampler = optuna.samplers.RandomSampler(seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=sampler).ask()
    config = composer.trial(suggest_overrides(trial, reading.space))
    assert 1e-4 <= config.optim.lr <= 2e-2
    assert ("loss.gamma" in trial.params) == (config.loss.name == "focal")
    assert isinstance(reading.space, Space)
