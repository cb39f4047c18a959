"""Where trials and refits are kept in the folder of a sweep."""

from __future__ import annotations

from pathlib import Path

from cxr_lightning.errors import ConfigError
from cxr_lightning.runs import RunFolder

__all__ = ["drop_checkpoints", "refit_place", "trial_place"]


def trial_place(folder: Path, number: int) -> tuple[Path, Path]:
    """Return a trial's folder, one that is not there yet, and the file of what it says."""
    name, again = f"trial-{number:04d}", 1
    place = folder / name
    while place.exists():
        again += 1
        place = folder / f"{name}_{again}"
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{place.name}.log"
    log.unlink(missing_ok=True)
    return place, log


def drop_checkpoints(place: Path) -> None:
    """Delete a trial's weights: it is begun again, not resumed, and they would fill the disk."""
    for file in (place / "checkpoints").glob("*.ckpt*"):
        file.unlink(missing_ok=True)


def refit_place(folder: Path, name: str, configuration: str, fingerprint: str) -> Path:
    """Return where a refit is kept: one that is there is its own only if it is the same run.

    A study of the same name may have begun anew, with other values in its trial 0 or other images:
    the numbers of the old one are not to be told as the new one's.
    """
    number = 1
    while True:
        place = folder / (name if number == 1 else f"{name}_{number}")
        if not place.exists() or not any(place.iterdir()):
            return place
        try:
            state = RunFolder(place).state()
        except ConfigError:
            pass  # something else
        else:
            same_data = state.fingerprint in ("", fingerprint) or not fingerprint
            if state.configuration == configuration and same_data:
                return place
        number += 1
