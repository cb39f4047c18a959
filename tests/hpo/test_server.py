"""The process that trials are forked from, and what becomes of those that end badly."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_lightning.config.compose import compose, config_to_yaml
from cxr_lightning.errors import ConfigError, DataError
from cxr_lightning.hpo.channel import Channel
from cxr_lightning.hpo.client import Job, ServerClient
from cxr_lightning.hpo.jobs import _trial, read_data
from cxr_lightning.hpo.last_words import last_words

Words = tuple[str, ...]


def trial(words: Words, folder: Path, *more: str, **message: object) -> dict[str, object]:
    config = compose([*words, "trainer.max_epochs=1", f"run.dir={folder}", *more])
    return {
        "kind": "trial",
        "config": config_to_yaml(config),
        "watch": None,
        "latency": False,
        "parent": None,
        "threads": 1,
        "log": f"{folder}.log",
        **message,
    }


def finish(client: ServerClient, job: Job, heard: Callable[[], None] = lambda: None) -> Job:
    deadline = time.monotonic() + 60
    while not job.over:
        assert time.monotonic() < deadline, "the job did not end"
        client.events(0.2)
        heard()
    return job


def process_of(client: ServerClient, job: Job) -> int:
    """Return the process of the only job that runs."""
    deadline = time.monotonic() + 30
    while True:
        children = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()
        if children:
            return int(children[0])
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_has_no_pool_of_threads_when_it_forks(
    client: ServerClient, words: Words, tmp_path: Path
) -> None:
    """OpenMP's would hang what is forked; jemalloc's and Arrow's own threads survive a fork."""
    assert client.facts["threads"] <= 2
    facts = client.call(
        {"kind": "prepare", "configs": [config_to_yaml(compose(words))], "metrics": ["val/loss"]}
    )
    assert facts["counts"]["train"] > 0
    assert client.adopt(facts["data"][0])["threads"] <= 3
    for number in range(2):
        job = client.run(trial(words, tmp_path / f"trial{number}", "trainer.threads=2"))
        assert finish(client, job).code == 0


def test_a_trial_costs_less_than_a_second_beyond_its_training(
    client: ServerClient, words: Words, tmp_path: Path
) -> None:
    """Computing time; the first trial is let off. A busy machine counts half as much again."""
    beyond = []
    for number in range(4):
        job = client.run(trial(words, tmp_path / f"trial{number}", watch="val/loss"))
        process, marks = process_of(client, job), []
        while not job.over:
            for _, message in client.events(0.2):
                if "run" in message or "epoch" in message:  # training begins; an epoch has ended
                    marks.append(computed(process))
                if "epoch" in message:
                    job.channel.send({"prune": False})
        begun, ended = marks
        beyond.append(job.cpu_seconds - (ended - begun))
    assert statistics.median(beyond[1:]) < 1.5, beyond


def computed(process: int) -> float:
    """Return the seconds that a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_data_are_read_and_decoded_once(
    client: ServerClient, words: Words, phantom_root: Path, tmp_path: Path
) -> None:
    """After that no trial needs the files; one of other data does."""
    root, away = tmp_path / "data", tmp_path / "away"
    shutil.copytree(phantom_root, root)
    words = (*words, f"data.root={root}")
    facts = client.call(
        {"kind": "prepare", "configs": [config_to_yaml(compose(words))], "metrics": ["val/loss"]}
    )
    client.adopt(facts["data"][0])
    root.rename(away)
    jobs = [
        finish(client, client.run(trial(words, tmp_path / name, *more)))
        for name, more in (("same", ()), ("other", ("data.val_fraction=0.3",)))
    ]
    away.rename(root)  # a server that is started anew reads it again
    same, other = (job.result for job in jobs)
    assert same is not None
    assert "done" in same, same
    assert other is not None
    assert str(root) in other["error"]


def test_a_trial_reads_no_test_set_and_keeps_no_weights(
    client: ServerClient, words: Words, tmp_path: Path
) -> None:
    folder = tmp_path / "trial"
    job = finish(client, client.run(trial(words, folder)))
    assert job.result is not None
    metrics = job.result["done"]["metrics"]
    assert not any(name.startswith("test/") for name in metrics)
    assert metrics["val/auroc_macro"] is not None
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert "predictions_val.parquet" in names
    assert not any("test" in name or name.endswith((".ckpt", ".safetensors")) for name in names)


def test_a_trial_touches_no_image_of_the_test_set(words: Words, tmp_path: Path) -> None:
    message = trial(words, tmp_path / "trial")
    data = read_data(str(message["config"]))
    poisoned = data.cache.rows.copy()
    poisoned[data.cohort.rows("test")] = np.iinfo(np.int64).max
    data._cache = replace(data.cache, rows=poisoned)
    with pytest.raises(IndexError):
        next(iter(data.test_dataloader()))
    here, there = Channel.pair()
    assert _trial(message, there, [data])["metrics"]["val/auroc_macro"] is not None
    for end in (here, there):
        end.close()


def test_latency_is_measured_where_it_is_asked_for(
    client: ServerClient, words: Words, tmp_path: Path
) -> None:
    job = finish(client, client.run(trial(words, tmp_path / "trial", latency=True)))
    assert job.result is not None
    assert 0 < job.result["done"]["metrics"]["latency_ms"] < 1000


def test_what_was_sent_is_heard_though_answers_were_not_read() -> None:
    """The system tells of unread messages first, and a result would be taken for lost."""
    here, there = Channel.pair()
    here.send({"prune": False})
    there.send({"done": 1})
    there.close()
    assert here.receive() == {"done": 1}
    assert here.receive() is None
    here.close()


class TestBadEnds:
    def test_a_trial_that_raises(self, client: ServerClient, words: Words, tmp_path: Path) -> None:
        # The transform wants more pixels than there are, which shows when the first batch is made.
        crop = "augment.transforms=[{name: RandomCrop, height: 4096, width: 4096}]"
        job = finish(client, client.run(trial(words, tmp_path / "trial", crop)))
        assert job.code == 0
        assert job.result is not None
        said = last_words(job.result, job.code, tmp_path / "trial.log")
        assert said.startswith(job.result["error"])
        assert "4096" in said
        assert "4096" in (tmp_path / "trial.log").read_text()

    def test_a_trial_that_runs_out_of_memory(
        self, client: ServerClient, words: Words, tmp_path: Path
    ) -> None:
        # More weights than a process has addresses, whatever the machine lets it ask for.
        wide = "model.options={channels: [8, 1000000000000], convs_per_block: 1}"
        job = finish(client, client.run(trial(words, tmp_path / "trial", wide)))
        assert job.result is not None
        said = last_words(job.result, job.code, tmp_path / "trial.log")
        assert "can't allocate memory: you tried to allocate" in said
        assert finish(client, client.run(trial(words, tmp_path / "next"))).code == 0

    def test_a_trial_that_diverges(
        self, client: ServerClient, words: Words, tmp_path: Path
    ) -> None:
        # Divided by next to nothing, the images are not finite.
        job = finish(client, client.run(trial(words, tmp_path / "trial", "data.image.std=1e-40")))
        assert job.result is not None
        assert job.result["diverged"].startswith("training diverged in epoch")

    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (signal.SIGKILL, "killed by SIGKILL (by another process, or by the system for want of"),
            (signal.SIGSEGV, "killed by SIGSEGV (a segmentation fault)"),
        ],
    )
    def test_a_trial_that_is_killed(
        self,
        client: ServerClient,
        words: Words,
        tmp_path: Path,
        number: signal.Signals,
        said: str,
    ) -> None:
        folder = tmp_path / "trial"
        job = client.run(trial(words, folder, "trainer.max_epochs=500", watch=None))
        process = process_of(client, job)
        while not (folder / "history.csv").is_file():
            client.events(0.1)
        os.kill(process, number)
        finish(client, job)
        assert job.result is None
        assert job.code == -number
        text = last_words({}, job.code, Path(f"{folder}.log"))
        assert text.startswith(said)
        assert "epoch   1/500" in text or number == signal.SIGSEGV
        if number == signal.SIGSEGV:
            assert "Fatal Python error: Segmentation fault" in Path(f"{folder}.log").read_text()

    def test_mistakes_of_the_user_keep_their_kind(self, client: ServerClient, words: Words) -> None:
        wrong = [config_to_yaml(compose([*words, "model.name=resnet5"]))]
        with pytest.raises(ConfigError, match="trials of this space cannot run"):
            client.call({"kind": "prepare", "configs": wrong, "metrics": ["val/loss"]})
        config = [config_to_yaml(compose(words))]
        with pytest.raises(ConfigError, match=r"val/auroc_makro: no such metric\. Did you mean"):
            client.call({"kind": "prepare", "configs": config, "metrics": ["val/auroc_makro"]})
        undefined = "val/auroc/Atelectasis"
        with pytest.raises(DataError, match="undefined: the validation split holds one class"):
            client.call({"kind": "prepare", "configs": config, "metrics": [undefined]})
