"""Names and values inside MLflow's limits; MLflow's own validation is the reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import validation

from cxr_lightning.tracking.records import (
    batches,
    clean_name,
    params_of,
    split_finite,
    tag_records,
)


@given(st.text(max_size=400))
def test_every_name_becomes_valid(name: str) -> None:
    validation._validate_metric_name(clean_name(name))
    validation._validate_length_limit("name", 250, clean_name(name))
    assert clean_name(clean_name(name)) == clean_name(name)


@given(st.text(alphabet="abz AZ09_-.:/", min_size=1, max_size=60))
def test_valid_names_stay(name: str) -> None:
    try:
        validation._validate_metric_name(name)
    except MlflowException:
        return
    assert clean_name(name) == name


def test_names_by_hand() -> None:
    assert clean_name("val/auroc/No Finding") == "val/auroc/No Finding"
    assert clean_name("epoch=3;x") == "epoch_3_x"
    assert clean_name("/a//../b/") == "a/b"
    assert clean_name("") == "_"


def test_numbers_of_any_kind_and_undefined_ones() -> None:
    metrics = {"a": 1, "b": np.float32(0.5), "c": math.nan, "d": math.inf, "e": "x", "f": None}
    assert split_finite(metrics) == (
        [("a", 1.0), ("b", 0.5)],
        {"c": "nan", "d": "inf", "e": "no number", "f": "no number"},
    )


def test_long_values_are_cut_and_kept_whole() -> None:
    values, texts = params_of({"data/labels": "x" * 6001, "seed": 0, "none": None})
    assert (values["seed"], values["none"]) == ("0", "None")
    assert len(values["data/labels"]) == 6000
    assert values["data/labels"].endswith(" ... (whole in params/data.labels.txt)")
    assert texts == [{"kind": "text", "text": "x" * 6001, "file": "params/data.labels.txt"}]


def test_tags_are_cut_and_split() -> None:
    records = tag_records({f"t{i}": "y" * 9000 for i in range(205)})
    assert [len(record["values"]) for record in records] == [100, 100, 5]
    assert {len(value) for record in records for value in record["values"].values()} == {8000}


@given(st.lists(st.one_of(st.integers(1, 1000), st.just("tags")), max_size=30))
def test_batches_keep_order_and_limits(sizes: list[int | str]) -> None:
    records = [
        {"kind": "tags", "values": {}}
        if size == "tags"
        else {"kind": "metrics", "values": [["m", 0.0]] * int(size)}
        for size in sizes
    ]
    grouped = list(batches(records))
    assert [record for batch in grouped for record in batch] == records
    for batch in grouped:
        kinds = {record["kind"] for record in batch}
        assert len(kinds) == 1
        if kinds == {"metrics"}:
            assert sum(len(record["values"]) for record in batch) <= 1000
        else:
            assert len(batch) == 1


def test_neighbouring_metrics_share_a_call() -> None:
    records = [{"kind": "metrics", "values": [["m", 0.0]]} for _ in range(10)]
    assert [len(batch) for batch in batches(records)] == [10]
    assert pytest.approx(1000) == validation.MAX_METRICS_PER_BATCH
