"""Which device and how many threads each worker has."""

from __future__ import annotations

import pytest

from cxr_lightning.config.schema import TrainerConfig
from cxr_lightning.errors import ConfigError
from cxr_lightning.hpo.slots import make_slots


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    slots = make_slots(3, TrainerConfig(), gpus=4, cpus=12)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "2"]
    assert {slot.threads for slot in slots} == {4}


def test_a_trial_on_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,9")
    slots = make_slots(3, TrainerConfig(devices=2), gpus=5, cpus=1)
    visible = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots]
    assert visible == ["4,5", "6,7", "4,5"]  # more workers than pairs: two share
    assert {slot.threads for slot in slots} == {1}
    with pytest.raises(ConfigError, match=r"trainer.devices=8: this machine has 5 GPU"):
        make_slots(1, TrainerConfig(devices=8), gpus=5, cpus=1)


def test_without_gpus_threads_are_divided() -> None:
    for trainer, gpus in ((TrainerConfig(), 0), (TrainerConfig(accelerator="cpu"), 8)):
        slots = make_slots(4, trainer, gpus=gpus, cpus=10)
        assert [slot.threads for slot in slots] == [2] * 4
        assert not any(slot.environment for slot in slots)
