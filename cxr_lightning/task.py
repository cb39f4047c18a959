"""The LightningModule: steps, epoch metrics over all devices, optimisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torchmetrics import Metric

from cxr_lightning.config.schema import ModelConfig, OptimConfig, TrainerConfig
from cxr_lightning.data.dataset import Batch
from cxr_lightning.errors import Diverged
from cxr_lightning.evaluation.discrimination import (
    auroc_per_label,
    average_precision_per_label,
    macro,
)
from cxr_lightning.labels import LabelSpace
from cxr_lightning.losses.base import Loss
from cxr_lightning.models.freezing import freeze_stages, unfreeze_all
from cxr_lightning.models.groups import parameter_groups
from cxr_lightning.models.network import Network, decision_logits
from cxr_lightning.optim import build_optimizer, build_plateau, build_step_schedule

__all__ = ["GatheredPredictions", "MultiLabelTask"]


class GatheredPredictions(Metric):
    """Rows, logits and targets of an epoch from all devices, each row once.

    Metrics per device and their mean would be wrong for ranking metrics, and would count the rows
    twice with which the last batch was filled up.
    """

    full_state_update = False
    rows: list[torch.Tensor]
    logits: list[torch.Tensor]
    targets: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("rows", "logits", "targets"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, rows: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Add a batch: (batch,), (batch, labels) or (batch, labels, 3), (batch, labels)."""
        self.rows.append(rows)
        self.logits.append(logits.detach().float())
        self.targets.append(targets.float())

    def compute(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows (n,), logits and targets as arrays, rows ascending, distinct."""
        # Before the synchronisation these are lists, after it tensors.
        rows, logits, targets = (
            torch.cat(state) if isinstance(state, list) else state
            for state in (self.rows, self.logits, self.targets)
        )
        distinct, first = np.unique(rows.cpu().numpy(), return_index=True)
        return distinct, logits.cpu().numpy()[first], targets.cpu().numpy()[first]


class MultiLabelTask(LightningModule):
    """Train a network on labels that are 1, 0 or unknown.

    Parameters
    ----------
    network
        From uint8 images (batch, 1, H, W) to logits (batch, labels).
    loss
        From logits and targets to a scalar.
    labels
        Names of the outputs.
    model, optim, trainer
        Freezing, optimisation, and what chooses the best epoch.
    seed
        Seed of dropout and other randomness inside the network.

    Attributes
    ----------
    measured
        Names of what was measured in this epoch: `callback_metrics` also holds older values.
    """

    tested: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Rows (n,), logits and targets (n, labels) of the last test."""

    def __init__(
        self,
        network: Network,
        loss: Loss,
        labels: LabelSpace,
        *,
        model: ModelConfig,
        optim: OptimConfig,
        trainer: TrainerConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.labels = labels
        self.model_config = model
        self.optim_config = optim
        self.monitor = trainer.monitor
        self.higher_is_better = trainer.higher_is_better
        self.seed = seed
        self.predictions = GatheredPredictions()
        # No buffers: distributed training copies those of the first device to all others.
        self._loss_sum = self._loss_weight = torch.zeros(())
        self.measured: set[str] = set()
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self.releases_at = model.unfreeze_epoch
        # Distributed training must see what is frozen for good before it wraps the network, and
        # what is only frozen for a while as if it were not.
        frozen = freeze_stages(network, model.freeze)
        if self.releases_at is not None and frozen:
            unfreeze_all(network)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes at every hook which one it calls, 46 times a step. Module would look each
        # time whether that is a parameter, a module or a buffer: a tenth of what Lightning costs.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the outputs that the loss takes: (batch, labels), or (batch, labels, 3)."""
        return self.network.outputs(batch["image"], batch.get("tabular"))

    # -- training ------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        self.measured.clear()
        self._loss_sum = torch.zeros((), device=self.device)
        self._loss_weight = torch.zeros((), device=self.device)
        if self.releases_at is not None:
            if self.current_epoch >= self.releases_at:
                unfreeze_all(self.network)
            else:
                freeze_stages(self.network, self.model_config.freeze)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout, too, depends on an address alone, so that a resumed run repeats it.
        address = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        seed = int(np.random.SeedSequence(address).generate_state(1)[0])
        # What torch.manual_seed does for these devices; for those it has not met it takes ten
        # times as long.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        targets = batch["target"]
        known = ~targets.isnan()
        if self.trainer.world_size > 1:
            counts = self._over_devices(known.sum(dim=0))
            loss: torch.Tensor = self.loss(self(batch), targets, counts)
            total = counts.sum()
        else:
            loss = self.loss(self(batch), targets)
            total = known.sum()
        self._loss_sum.add_(loss.detach() * total)
        self._loss_weight.add_(known.sum())
        # Devices average their gradients, which are to be added up.
        return loss * self.trainer.world_size if self.trainer.world_size > 1 else loss

    @staticmethod
    def _over_devices(value: torch.Tensor) -> torch.Tensor:
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.trainer.is_last_batch:
            total, weight = self._loss_sum, self._loss_weight
            if self.trainer.world_size > 1:
                total, weight = self._over_devices(total), self._over_devices(weight)
            mean = total / weight.clamp(min=1)
            self.log("train/loss", mean, on_step=False, on_epoch=True, batch_size=1)
            self.measured.add("train/loss")

    def on_train_epoch_end(self) -> None:
        # Advanced here, before the checkpoint of this epoch is written, so that it is in it.
        # Lightning keeps the values of earlier epochs; only this epoch's count.
        value = self.trainer.callback_metrics.get(self.monitor)
        if self._plateau is None or value is None or self.monitor not in self.measured:
            return
        if torch.isfinite(value):
            self._plateau.step(float(value))

    # -- evaluation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.predictions.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.predictions.update(batch["row"], self(batch), batch["target"])

    def on_validation_epoch_end(self) -> None:
        _, outputs, targets = self.predictions.compute()
        if not np.isfinite(outputs).all():
            raise Diverged(
                f"training diverged in epoch {self.current_epoch + 1}: the network's outputs are "
                "not finite. Lower optim.lr, or set trainer.gradient_clip_val=1; the epochs before "
                "it are in the run's checkpoints"
            )
        logits = decision_logits(torch.from_numpy(outputs)).numpy()
        auroc = auroc_per_label(targets, logits)
        precision = average_precision_per_label(targets, logits)
        with torch.no_grad():
            device = self.device
            loss = self.loss(
                torch.from_numpy(outputs).to(device), torch.from_numpy(targets).to(device)
            )
        # Every device has gathered all predictions: the values are equal without a reduction.
        values = {
            "val/loss": loss,
            "val/auroc_macro": macro(auroc).value,
            "val/average_precision_macro": macro(precision).value,
        }
        self.log_dict(values, sync_dist=False)
        self.measured.update(values)

    def on_test_epoch_start(self) -> None:
        self.predictions.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        # Final predictions are in full precision: the same as those of the bundle.
        with torch.autocast(self.device.type, enabled=False):
            logits = decision_logits(self(batch))
        self.predictions.update(batch["row"], logits, batch["target"])

    def on_test_epoch_end(self) -> None:
        # Now, while all devices are here: when a test is over Lightning moves everything to the
        # CPU, from where GPUs cannot gather.
        self.tested = self.predictions.compute()

    # -- optimisation --------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        config = self.optim_config
        groups = parameter_groups(
            self.network,
            lr=config.lr,
            backbone_lr_factor=config.backbone_lr_factor,
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
        )
        optimizer = build_optimizer(config, [dict(group) for group in groups])
        self._plateau = build_plateau(config, optimizer, higher_is_better=self.higher_is_better)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_step_schedule(
            config,
            optimizer,
            steps=steps,
            steps_per_epoch=steps / max(1, self.trainer.max_epochs or 1),
        )
        if schedule is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labels"] = list(self.labels.names)
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._plateau_state = checkpoint.get("plateau")

    def on_train_start(self) -> None:
        # The schedule exists only after the checkpoint has been read.
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)
