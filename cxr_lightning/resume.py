"""Finding the run to resume."""

from __future__ import annotations

from pathlib import Path

from cxr_lightning.config.schema import Config
from cxr_lightning.errors import ConfigError
from cxr_lightning.runs import STATE, RunFolder, chosen_folder, configuration_hash

__all__ = ["find_finished", "find_run"]


def find_run(config: Config) -> RunFolder | None:
    """Return the run that `resume` asks for: None for `never`, or where `auto` finds none.

    `auto` takes the newest unfinished run of the same configuration that no process is running;
    where `run.dir` or `run.name` says which, only that one.

    Raises
    ------
    ConfigError
        `resume` names a folder that holds no run, a finished one, or one of another configuration.
    """
    if config.resume == "never":
        return None
    wanted = configuration_hash(config)
    if config.resume == "auto":
        chosen = chosen_folder(config)
        files = Path("runs").glob(f"*/{STATE}") if chosen is None else [chosen / STATE]
        found = [file.parent for file in files if file.is_file() and _resumable(file, wanted)]
        newest = max(found, key=lambda path: (path / STATE).stat().st_mtime, default=None)
        return RunFolder(newest, resumed=True) if newest else None
    path = Path(config.resume)
    if not (path / STATE).is_file():
        raise ConfigError(
            f"resume={config.resume}: must be never, auto, or a run's folder; this folder has no "
            f"{STATE}"
        )
    folder = RunFolder(path, resumed=True)
    state = folder.state()
    if state.status == "finished":
        raise ConfigError(f"resume={path}: that run is finished; nothing is left to resume")
    if state.configuration != wanted:
        raise ConfigError(
            f"resume={path}: that run has another configuration. Give its own with --config "
            f"{path / 'config.yaml'}"
        )
    if folder.is_running:
        raise ConfigError(f"resume={path}: another process is running that run")
    return folder


def find_finished(config: Config) -> RunFolder | None:
    """Return the run that `resume=auto` asks for by name, if it has nothing left to do."""
    chosen = chosen_folder(config) if config.resume == "auto" else None
    if chosen is None or not (chosen / STATE).is_file():
        return None
    state = RunFolder(chosen).state()
    done = state.status == "finished" and state.configuration == configuration_hash(config)
    return RunFolder(chosen) if done else None


def _resumable(file: Path, wanted: str) -> bool:
    folder = RunFolder(file.parent)
    try:
        state = folder.state()
    except ConfigError:
        return False  # not a run of ours, or one that was never begun
    return state.status != "finished" and state.configuration == wanted and not folder.is_running
