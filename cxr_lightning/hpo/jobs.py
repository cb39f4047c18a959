"""What a process forked from the server does: check, prepare, a trial, or a whole run."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from cxr_lightning.config.compose import config_from_dict
from cxr_lightning.config.schema import Config
from cxr_lightning.errors import Diverged, UserError
from cxr_lightning.hpo.channel import Channel, Message
from cxr_lightning.hpo.places import drop_checkpoints

if TYPE_CHECKING:
    from cxr_lightning.data.base import ChestXrayDataModule

__all__ = ["import_everything", "read_data", "run_job"]


def import_everything() -> dict[str, Any]:
    """Import what a run needs, without starting a thread; returns what the hardware offers."""
    import torch

    # A pool of threads does not survive a fork: whoever needs one starts it after that.
    torch.set_num_threads(1)

    import pyarrow.parquet  # noqa: F401

    import cxr_lightning.hpo.callbacks
    import cxr_lightning.models.simple_cnn
    import cxr_lightning.tracking.preload
    import cxr_lightning.training  # noqa: F401

    torch.manual_seed(0)
    return {"gpus": torch.cuda.device_count(), "cpus": len(os.sched_getaffinity(0))}


def read_data(text: str) -> ChestXrayDataModule:
    """Read and open the data of a configuration; they have been decoded before."""
    from cxr_lightning.data.base import ChestXrayDataModule

    config = _config(text)
    data = ChestXrayDataModule(config.data, config.augment, seed=config.seed)
    data.prepare()
    return data


def _config(text: str) -> Config:
    return config_from_dict(yaml.safe_load(text))


def run_job(message: Message, end: Channel, prepared: Sequence[ChestXrayDataModule]) -> None:
    """Do one job and send what became of it: `done`, or `error` with its last words."""
    os.chdir(message["folder"])  # paths mean what they mean to the sweep
    _redirect(message.get("log"))
    _settle(message)
    try:
        result = _JOBS[message["kind"]](message, end, prepared)
    except KeyboardInterrupt:
        end.send({"interrupted": True})
    except Diverged as error:
        end.send({"diverged": str(error)})
    except UserError as error:
        if "log" in message:  # else the sweep says it
            sys.stderr.write(f"error: {error}\n")
        end.send({"error": str(error), "user": True, "type": type(error).__name__})
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is this job's alone
        traceback.print_exc()
        text = "".join(traceback.format_exception_only(error)).strip()
        end.send({"error": text, "user": False, "type": type(error).__name__})
    else:
        end.send({"done": result})


def _redirect(log: str | None) -> None:
    """Keep what is said, by whatever part of the process, in a file."""
    if log is not None:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(target, 1)
        os.dup2(target, 2)
        os.close(target)
    faulthandler.enable()  # a segmentation fault says where


def _settle(message: Message) -> None:
    """Take the job's devices, threads and signals."""
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(message.get("environment", {}))
    if threads := message.get("threads"):
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of further ranks, which start anew
    random.seed()  # else names that are drawn are those of all other jobs


def _trial(
    message: Message, end: Channel, prepared: Sequence[ChestXrayDataModule]
) -> Mapping[str, Any]:
    from cxr_lightning.hpo.callbacks import Course, Latency
    from cxr_lightning.training import run_fit

    config = _config(message["config"])
    course = Course(end, message["watch"])
    latency = [Latency()] if message["latency"] else []
    assert config.run.dir is not None  # set for each trial
    try:
        metrics = run_fit(
            config,
            [course, *latency],
            splits=("val",),
            parent_run_id=message.get("parent"),
            prepared=_fitting(prepared, config),
        )
    finally:
        drop_checkpoints(config.run.dir)
    for one in latency:
        metrics |= one.measured
    if message["watch"] is not None and message["watch"] not in metrics:
        metrics[message["watch"]] = course.best  # the loss: what the kept epoch was chosen by
    return {"metrics": metrics, "pruned": course.pruned, "epochs": course.epochs}


def _fit(
    message: Message, end: Channel, prepared: Sequence[ChestXrayDataModule]
) -> Mapping[str, Any]:
    from cxr_lightning.hpo.callbacks import Course
    from cxr_lightning.training import run_fit

    config = _config(message["config"])
    metrics = run_fit(
        config,
        [Course(end, None)],
        parent_run_id=message.get("parent"),
        prepared=_fitting(prepared, config),
    )
    return {"metrics": metrics}


def _fitting(prepared: Sequence[ChestXrayDataModule], config: Config) -> ChestXrayDataModule | None:
    return next((one for one in prepared if one.serves(config.data)), None)


def _prepare(
    message: Message, end: Channel, prepared: Sequence[ChestXrayDataModule]
) -> Mapping[str, Any]:
    """Decode the data, and check all that can be checked before a trial."""
    from cxr_lightning.hpo.preparation import prepare

    configs = [_config(text) for text in message["configs"]]
    return prepare(configs, message["metrics"])


_JOBS = {"trial": _trial, "fit": _fit, "prepare": _prepare}
