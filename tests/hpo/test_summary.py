"""The leaderboard, the Pareto front, importances, figures and the words on the sweep's page."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from PIL import Image

from cxr_lightning.hpo.figures import importances, write_figures
from cxr_lightning.hpo.ranking import best_trials, leaderboard, pareto_front
from cxr_lightning.hpo.space import Space

RATE = FloatDistribution(1e-4, 1e-2, log=True)
LOSS = CategoricalDistribution(["bce", "focal"])
GAMMA = FloatDistribution(0.5, 3.0)
AUROC = "val/auroc_macro"


def make_space(**changes: object) -> Space:
    parameters = {
        "optim.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "loss": {"type": "categorical", "choices": ["bce", "focal"]},
        "loss.gamma": {"type": "float", "low": 0.5, "high": 3.0, "when": {"loss": "focal"}},
    }
    return Space.model_validate({"parameters": parameters} | changes)


BOTH = make_space(objective={AUROC: "maximize", "latency_ms": "minimize"}, pruner={"name": "none"})


def make_trial(
    *values: float, state: TrialState = TrialState.COMPLETE, lr: float = 1e-3, **more: object
) -> FrozenTrial:
    return optuna.create_trial(
        state=state,
        values=list(values) or None,
        params={"optim.lr": lr, "loss": "bce"},
        distributions={"optim.lr": RATE, "loss": LOSS},
        **more,  # type: ignore[arg-type]
    )


def numbered(*trials: FrozenTrial) -> list[FrozenTrial]:
    for number, trial in enumerate(trials):
        trial.number = number
    return list(trials)


def test_leaderboard_has_complete_trials_best_first_then_the_others() -> None:
    trials = numbered(
        make_trial(0.6),
        make_trial(state=TrialState.FAIL, user_attrs={"last_words": "killed\nby a signal"}),
        make_trial(0.8),
        make_trial(
            0.9,  # Optuna takes the last epoch for it; better than all, and yet not ranked
            state=TrialState.PRUNED,
            intermediate_values={1: 0.4, 2: 0.9},
            user_attrs={"reason": "stopped after 2 epochs"},
        ),
        make_trial(0.7, user_attrs={"epochs": 6}),
    )
    table = leaderboard(trials, make_space())
    assert list(table["trial"]) == [2, 4, 0, 1, 3]
    assert list(table["rank"][:3]) == [1, 2, 3]
    assert table["rank"][3:].isna().all()
    assert list(table[AUROC][[0, 4]]) == [0.8, 0.9]
    assert np.isnan(table[AUROC][3])  # undefined, not 0
    assert table["note"][3] == "killed"
    assert table["note"][4] == "stopped after 2 epochs"
    assert list(table["epochs"][[1, 4]]) == [6, 2]
    assert table["loss.gamma"].isna().all()


def test_leaderboard_of_no_trials_has_its_columns() -> None:
    table = leaderboard([], make_space())
    assert len(table) == 0
    assert {"rank", "trial", AUROC, "loss.gamma", "note"} <= set(table.columns)


def test_the_least_is_best_of_what_is_minimized() -> None:
    space = make_space(objective={"val/loss": "minimize"})
    trials = numbered(make_trial(0.3), make_trial(0.1), make_trial(0.2), make_trial(0.1))
    # Of equal ones the earlier is first.
    assert [trial.number for trial in best_trials(trials, space)] == [1, 3, 2, 0]


def test_pareto_front_by_hand() -> None:
    trials = numbered(
        make_trial(0.9, 30.0),  # the best AUROC
        make_trial(0.8, 40.0),  # worse than 0 in both
        make_trial(0.8, 10.0),
        make_trial(0.7, 5.0),  # the fastest
        make_trial(0.7, 10.0),  # as fast as 2, but worse
        make_trial(0.8, 10.0),  # equal to 2
        make_trial(state=TrialState.FAIL),
    )
    assert [trial.number for trial in pareto_front(trials, BOTH)] == [0, 2, 3, 5]
    assert [trial.number for trial in best_trials(trials, BOTH)] == [0, 2, 5, 3, 1, 4]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_pareto_front_is_optunas(values: list[tuple[int, int]]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([make_trial(*map(float, pair)) for pair in values])
    found = [trial.number for trial in pareto_front(study.trials, BOTH)]
    assert sorted(found) == sorted(trial.number for trial in study.best_trials)


def simulated(count: int, seed: int) -> optuna.Study:
    """Return a study in which the learning rate matters, and nothing else does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    generator = np.random.default_rng(seed)
    for number in range(count):
        rate = float(10 ** generator.uniform(-4, -2))
        focal = number in (3, 6)
        params: dict[str, object] = {"optim.lr": rate, "loss": "focal" if focal else "bce"}
        known: dict[str, object] = {"optim.lr": RATE, "loss": LOSS}
        if focal:
            params["loss.gamma"], known["loss.gamma"] = 1.0 + number / 5, GAMMA
        value = 0.8 - 0.05 * (np.log10(rate) + 2.7) ** 2 + generator.normal(0, 0.003)
        study.add_trial(
            optuna.create_trial(
                params=params,
                distributions=known,  # type: ignore[arg-type]
                value=float(value),
                intermediate_values={1: 0.5, 2: float(value)},
            )
        )
    return study


@pytest.mark.parametrize("seed", range(3))
def test_importances_find_what_matters(seed: int) -> None:
    shares = importances(simulated(30, seed))
    assert next(iter(shares)) == "optim.lr"
    assert sum(shares.values()) == pytest.approx(1)


def test_a_parameter_of_few_trials_has_no_importance() -> None:
    """Two focal trials say nothing about gamma, yet Optuna would give it the largest share."""
    study = simulated(30, 0)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
    assert "loss.gamma" in optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert set(importances(study)) == {"optim.lr", "loss"}


@pytest.mark.parametrize(("count", "said"), [(9, False), (10, True)])
def test_few_trials_say_nothing_of_importance(count: int, said: bool) -> None:
    assert bool(importances(simulated(count, 0))) == said


ALWAYS = {"optimization_history", "parallel_coordinate", "slice", "edf"}


def names(files: list[Path]) -> set[str]:
    return {file.stem for file in files if file.suffix == ".png"}


def test_figures_of_one_objective(tmp_path: Path) -> None:
    files = write_figures(simulated(12, 0), make_space(), tmp_path / "figures", title="a study")
    assert names(files) == ALWAYS | {"param_importances", "intermediate_values"}
    for file in files[1:]:
        with Image.open(file) as picture:
            shades = np.asarray(picture.convert("L"))
        assert shades.min() < 100 < shades.max(), f"{file} is empty"
    page = files[0].read_text(encoding="utf-8")
    assert files[0].name == "sweep.html"
    assert page.count("Plotly.newPlot(") >= len(files) - 1
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', page)  # needs no network


def test_figures_of_two_objectives(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(
        [make_trial(0.5 + n / 50, 3.0 + n % 4, lr=10 ** (-2 - n / 6)) for n in range(8)]
    )
    found = names(write_figures(study, BOTH, tmp_path, title="two"))
    assert found == ALWAYS | {"pareto_front"}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_figures_of_few_trials(tmp_path: Path, count: int) -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials([make_trial(0.5) for _ in range(count)])  # nothing varies
    study.add_trial(make_trial(state=TrialState.FAIL))
    files = write_figures(study, make_space(), tmp_path, title="few")
    assert bool(files) == bool(count)


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write_figures(simulated(4, 0), make_space(), tmp_path, title="t")
    assert dict(mpl.rcParams) == before


def test_trials_that_were_begun_again_are_drawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    from cxr_lightning.hpo import figures

    def draw(name: str, trials: list[FrozenTrial], *rest: object) -> object:
        drawn.append(len(trials))
        return real(name, trials, *rest)

    real: Callable[..., object] = figures.draw
    monkeypatch.setattr(figures, "draw", draw)
    study = simulated(3, 0)
    study.add_trial(make_trial(0.5, system_attrs={"retry_history": [0]}))
    write_figures(study, make_space(), tmp_path, title="t")
    assert set(drawn) == {3}


def test_leaderboard_survives_csv(tmp_path: Path) -> None:
    trials = numbered(*(make_trial(value) for value in (0.5, 0.75)))
    table = leaderboard(trials, make_space())
    table.to_csv(tmp_path / "l.csv", index=False)
    read = pd.read_csv(tmp_path / "l.csv")
    assert list(read["trial"]) == [1, 0]
    assert list(read[AUROC]) == [0.75, 0.5]
    assert all(a >= b for a, b in itertools.pairwise(read[AUROC]))
