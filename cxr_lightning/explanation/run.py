"""From a bundle and a data set to a folder that explains one on the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.special import expit

from cxr_lightning import __version__
from cxr_lightning.bundle import Bundle, load_bundle, read_bundle_info
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.errors import ConfigError, nearest
from cxr_lightning.evaluation.clusters import FEWEST_IMAGES
from cxr_lightning.evaluation.plots.style import save_figure
from cxr_lightning.explanation.examples import choose_examples, draw_examples
from cxr_lightning.explanation.features import run_network, stage_names
from cxr_lightning.explanation.found_boxes import write_localisation
from cxr_lightning.explanation.heat_maps import (
    HeatMaps,
    choose_labels,
    compute_heat_maps,
    warnings_of,
)
from cxr_lightning.explanation.options import ExplainOptions
from cxr_lightning.explanation.representation import check_umap, write_representation
from cxr_lightning.explanation.source import Source, open_source
from cxr_lightning.runs import check_new_folder
from cxr_lightning.terminal import SYNTHETIC, Reporter
from cxr_lightning.tracking import open_existing

__all__ = ["run_explain"]


def run_explain(options: ExplainOptions, config: DataConfig) -> Path:
    """Explain a bundle on a data set; return the folder that holds everything.

    Raises
    ------
    ConfigError, DataError
        Before anything is written.
    """
    info = read_bundle_info(options.bundle)
    labels, indices = choose_labels(info.labels, options.labels)
    folder = options.folder
    check_new_folder(folder, "output")
    if options.umap:
        check_umap()
    reporter = Reporter()
    if config.name == "phantom":
        reporter.say(SYNTHETIC, style="yellow")
    bundle = load_bundle(options.bundle, device=_device(options))
    if options.stage not in stage_names(bundle.network):
        known = stage_names(bundle.network)
        raise ConfigError(
            f"stage={options.stage}: the network has no such stage."
            f"{nearest(options.stage, known)} Allowed: {', '.join(known)}"
        )
    # whether the method suits the network is known before the data are read
    _try_method(bundle, options)
    source = open_source(info, labels, options, config)
    skipped = f"; {source.skipped:,} could not be read" if source.skipped else ""
    reporter.say(
        f"{len(source):,} images of split={options.split}, "
        f"{source.boxes['row'].nunique():,} of them with boxes{skipped}"
    )
    notes = _seen_before(source)
    for line in notes:
        reporter.say(f"warning: {line}", style="yellow")
    with ExitStack() as stack:
        tracked = None
        if options.run:
            tracked = stack.enter_context(open_existing(options.run, options.tracking_uri, folder))
        folder.mkdir(parents=True, exist_ok=True)
        metrics = _explain(bundle, source, options, indices, config.batch_size, reporter, notes)
        if tracked is not None:
            tracked.log_metrics(metrics)
            tracked.log_artifacts(folder, folder.name)
            reporter.say(f"sent to MLflow: {tracked.page}")
    reporter.say(f"everything is in {folder}")
    return folder


def _seen_before(source: Source) -> list[str]:
    """Say how many of the images are of patients that the network was trained on."""
    seen = source.table["seen"]
    if source.untold:
        return [f"some of these patients may have been trained on: {source.untold}"]
    trained, validated = (int((seen == split).sum()) for split in ("train", "val"))
    if not trained + validated:
        return []
    return [
        f"{trained:,} of these {len(seen):,} images are of patients that the network was trained "
        f"on, {validated:,} of patients that its best epoch was chosen by: on them maps, "
        "localisation and clusters look better than on others. Examples are marked."
    ]


def _device(options: ExplainOptions) -> str:
    gpu = torch.cuda.is_available()
    if options.device == "gpu" and not gpu:
        raise ConfigError("device=gpu: torch sees no GPU; use device=cpu")
    return "cuda" if gpu and options.device != "cpu" else "cpu"


def _try_method(bundle: Bundle, options: ExplainOptions) -> None:
    size, inputs = bundle.info.image.size, len(bundle.info.tabular.outputs)
    compute_heat_maps(
        bundle.network,
        np.zeros((1, size, size), np.uint8),
        bundle.info.labels[:1],
        options.method,
        tabular=np.zeros((1, inputs), np.float32) if inputs else None,
    )


def _explain(
    bundle: Bundle,
    source: Source,
    options: ExplainOptions,
    indices: list[int],
    batch_size: int,
    reporter: Reporter,
    notes: Sequence[str],
) -> dict[str, float]:
    """Write everything; `notes` are warnings so far. Returns the metrics for MLflow."""
    with _progress() as bar:
        task = bar.add_task("Running the network", total=len(source))
        features, logits = run_network(
            bundle.network,
            source.batches(batch_size),
            options.stage,
            advance=lambda images: bar.advance(task, images),
        )
    probability = expit(logits[:, indices])
    chosen = _choose(source, probability, options)
    rows = np.unique(np.concatenate([*chosen.values(), source.boxes["row"].to_numpy(np.int64)]))
    metrics: dict[str, float] = {}
    if len(rows):
        maps = _heat_maps(bundle, source, rows, options, batch_size)
        _save_maps(maps, source, rows, options)
        vanished = warnings_of(maps)
        for line in vanished:
            reporter.say(f"warning: {line}", style="yellow")
        notes = [*notes, *vanished]
        metrics = write_localisation(
            maps, rows, source, options.folder, method=options.method, reporter=reporter
        )
        _examples(chosen, maps, rows, source, probability, bundle, options)
    if len(source) < FEWEST_IMAGES:
        reporter.say(f"no representation: {len(source)} images have no principal components")
    else:
        said = write_representation(
            features,
            source,
            options.folder / "representation",
            stage=options.stage,
            umap=options.umap,
            seed=options.seed,
        )
        reporter.say(said)
    _write_summary(bundle, source, options, notes)
    return metrics


def _choose(
    source: Source, probability: NDArray[np.float32], options: ExplainOptions
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the examples of each label."""
    if not isinstance(options.images, int):
        named = np.array(
            [list(source.table["sample_id"]).index(name) for name in options.images], np.int64
        )
        return dict.fromkeys(source.labels, named)
    chosen = {}
    for index, label in enumerate(source.labels):
        boxed = np.zeros(len(source), bool)
        boxed[source.boxes.loc[source.boxes["label"] == label, "row"].to_numpy(np.int64)] = True
        chosen[label] = choose_examples(
            source.truth[:, index], probability[:, index], boxed, options.images
        )
    return chosen


def _heat_maps(
    bundle: Bundle,
    source: Source,
    rows: NDArray[np.int64],
    options: ExplainOptions,
    batch_size: int,
) -> HeatMaps:
    with _progress() as bar:
        task = bar.add_task("Heat maps", total=len(rows))
        return compute_heat_maps(
            bundle.network,
            source.squares(rows),
            source.labels,
            options.method,
            tabular=None if source.tabular is None else source.tabular[rows],
            batch_size=batch_size,
            advance=lambda images: bar.advance(task, images),
        )


def _save_maps(
    maps: HeatMaps, source: Source, rows: NDArray[np.int64], options: ExplainOptions
) -> None:
    np.savez_compressed(
        options.folder / "heat_maps.npz",
        values=maps.values,
        vanished=maps.vanished,
        labels=np.array(maps.labels),
        sample_id=source.table["sample_id"].iloc[rows].to_numpy(str),
        picture_shape=source.cache.source_shape[rows],
        image_size=np.array(source.image.size),
        image_fit=np.array(source.image.fit),
        method=np.array(options.method),
    )


def _examples(
    chosen: Mapping[str, NDArray[np.int64]],
    maps: HeatMaps,
    rows: NDArray[np.int64],
    source: Source,
    probability: NDArray[np.float32],
    bundle: Bundle,
    options: ExplainOptions,
) -> None:
    limits = bundle.info.thresholds.select(source.labels).array
    for index, (label, shown) in enumerate(chosen.items()):
        if not len(shown):
            continue
        figure = draw_examples(
            source,
            label,
            shown.tolist(),
            maps.values[np.searchsorted(rows, shown), index],
            probability=probability[shown, index],
            threshold=float(limits[index]),
            method=options.method,
            folder=options.folder / "overlays",
        )
        save_figure(figure, options.folder / "examples" / f"{index + 1:02d}_{label}.png")


def _write_summary(
    bundle: Bundle, source: Source, options: ExplainOptions, notes: Sequence[str]
) -> None:
    summary = {
        "cxr_lightning": __version__,
        "options": options.model_dump(mode="json", exclude={"run", "tracking_uri"}),
        "labels": list(source.labels),
        "images": len(source),
        "images_with_boxes": int(source.boxes["row"].nunique()),
        "images_unreadable": source.skipped,
        "data_fingerprint": source.fingerprint,
        "trained_on": dict(bundle.info.provenance),
        "warnings": list(notes),
    }
    text = json.dumps(summary, indent=2) + "\n"
    (options.folder / "explain.json").write_text(text, encoding="utf-8")


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
