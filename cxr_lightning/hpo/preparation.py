"""What is made and checked once for a sweep: the images, and what trials could stumble over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cxr_lightning.config.compose import config_to_yaml
from cxr_lightning.config.schema import Config
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.cohort import split_counts
from cxr_lightning.errors import ConfigError, DataError, UserError, bullet_list, nearest
from cxr_lightning.evaluation.predictions import make_predictions
from cxr_lightning.evaluation.tables import flat_metrics, metrics_table
from cxr_lightning.evaluation.thresholds import fit_thresholds
from cxr_lightning.hardware import place
from cxr_lightning.hpo.space import EPOCH_METRICS, LATENCY
from cxr_lightning.preflight import check_config, check_data
from cxr_lightning.studies import label_array
from cxr_lightning.terminal import Reporter
from cxr_lightning.trainer import quiet_lightning

__all__ = ["prepare"]


def prepare(configs: Sequence[Config], metrics: Sequence[str]) -> Mapping[str, Any]:
    """Decode the data of all configurations, and check what needs neither or both of them.

    Parameters
    ----------
    configs
        Configurations in which every choice of the space occurs; the first is the base.
    metrics
        The objectives.

    Returns
    -------
    mapping
        `fingerprint` and `counts` of the cohort, and `data`: a configuration for each cache.

    Raises
    ------
    ConfigError, DataError
        Everything of a kind that is wrong, at once.
    """
    quiet_lightning()
    problems = []
    for config in configs:
        try:
            check_config(config, place(config.trainer))
        except UserError as error:
            problems.append(str(error))
    if problems:
        distinct = list(dict.fromkeys(problems))
        raise ConfigError(f"trials of this space cannot run:\n{bullet_list(distinct)}")
    modules: list[tuple[Config, ChestXrayDataModule]] = []
    for config in configs:
        module = ChestXrayDataModule(config.data, config.augment, seed=config.seed)
        for _, other in modules:
            module.reuse(other)
        if not module.serves(config.data):
            module.prepare(progress=True)
            modules.append((config, module))
        check_data(config, module)
    base = modules[0][1]
    _check_metrics(base, metrics)
    Reporter().cohort(base.cohort, configs[0].data.name)
    images = split_counts(base.cohort).loc["images"]
    return {
        "fingerprint": base.cohort.fingerprint,
        "counts": {str(split): int(str(count)) for split, count in images.items()},
        "data": [config_to_yaml(config) for config, _ in modules],
        "synthetic": configs[0].data.synthetic,
    }


def _check_metrics(data: ChestXrayDataModule, metrics: Sequence[str]) -> None:
    """Refuse objectives that no trial would have, by scoring a network that knows nothing."""
    cohort = data.cohort
    studies = cohort.table.iloc[cohort.rows("val")]
    y_true = label_array(studies, cohort.labels)
    table = make_predictions(
        sample_id=list(studies["sample_id"]),
        patient_id=list(studies["patient_id"]),
        study_id=list(studies["study_id"]),
        split="val",
        labels=cohort.labels.names,
        y_true=y_true,
        logits=np.zeros(y_true.shape, np.float32),
    )
    results = metrics_table(
        table,
        fit_thresholds(y_true, np.full(y_true.shape, 0.5), cohort.labels.names, rule="f1"),
        replicates=0,
        level=0.95,
        generator=np.random.default_rng(0),
    )
    known: dict[str, float | None] = flat_metrics(results, "val") | {LATENCY: 0.0}
    known |= dict.fromkeys(EPOCH_METRICS, 0.0)
    for metric in metrics:
        if metric not in known:
            raise ConfigError(
                f"objective.{metric}: no such metric.{nearest(metric, known)} There are "
                f"{', '.join(name for name in known if name.count('/') == 1)}, and the same of "
                "each label, such as val/auroc/LABEL"
            )
        if known[metric] is None:
            raise DataError(
                f"objective.{metric} is undefined: the validation split holds one class only. "
                "Choose another objective, or use more patients."
            )
