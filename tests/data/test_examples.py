"""Pictures of what augmentation does are those that training sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cxr_lightning.config.compose import compose
from cxr_lightning.data.base import ChestXrayDataModule
from cxr_lightning.data.examples import augmented_examples


def test_they_are_the_batches_of_the_first_epochs(phantom_root: Path) -> None:
    words = ["data=nih", f"data.root={phantom_root}", "data.image.size=32", "augment=strong"]
    config = compose(words)
    data = ChestXrayDataModule(config.data, config.augment, seed=3)
    originals, augmented = augmented_examples(data, 4, 2)
    assert originals.shape == (4, 32, 32)
    assert augmented.shape == (4, 2, 32, 32)
    dataset = data.train_dataloader().dataset
    rows = data.cohort.rows("train")
    for index, row in enumerate(rows[np.linspace(0, len(rows) - 1, 4).astype(int)]):
        np.testing.assert_array_equal(data.cache.read(data.cache.rows[[row]])[0], originals[index])
        for epoch in range(2):
            image = dataset[[(epoch, int(row))]]["image"]
            np.testing.assert_array_equal(image[0, 0].numpy(), augmented[index, epoch])
    assert (augmented[:, 0] != augmented[:, 1]).any()
