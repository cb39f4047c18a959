"""data=mix: each source has a section of its own, named by its choice of data and checked like it.

`data.sources=[nih,chexpert]` makes `data.nih` and `data.chexpert` out of conf/data/nih.yaml and
conf/data/chexpert.yaml; `data.nih.root=FOLDER` then sets what is NIH's alone. What all sources
share, such as the size of the images, is a field of the mix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxr_lightning.config.groups import choices
from cxr_lightning.config.messages import place
from cxr_lightning.config.schema import DataConfig, Section
from cxr_lightning.errors import ConfigError, nearest

__all__ = ["MIX", "SHARED", "fill_sources", "source_problems", "sources_of"]

MIX = "mix"
"""The data module whose sources are further data sets."""

SHARED = (
    "image",
    "sampling",
    "batch_size",
    "workers",
    "cache_dir",
    "on_bad_image",
    "on_duplicate",
    "val_fraction",
    "test_fraction",
    "split_seed",
    "phantom",
)
"""Fields of data sets that are set once for a whole mix."""


def sources_of(section: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sources that a section of data names; none where it is no mix, or malformed."""
    named = section.get("sources")
    if section.get("name") != MIX or not isinstance(named, list | tuple):
        return ()
    return tuple(name for name in named if isinstance(name, str))


def fill_sources(
    raw: dict[str, Any],
    values: Mapping[str, Any],
    folders: Sequence[Path],
    compose: Callable[[str], dict[str, Any]],
) -> None:
    """Give every source of a mix the section that its choice of data has, in `raw`.

    A section that has a name is complete, as in a resolved config.yaml; another one, as in a mix
    of the user's own, is laid over the choice's.

    Parameters
    ----------
    raw
        All sections, before the values of the command line are set.
    values
        Those values, by dotted key.
    folders
        Where choices are looked for.
    compose
        Returns the section of a choice of data.

    Raises
    ------
    ConfigError
        Sources that are no choice of data, all at once.
    """
    data = raw.get("data")
    if not isinstance(data, dict):
        return
    if "data.sources" in values:
        data = data | {"sources": values["data.sources"]}
    known = set(choices("data", folders)) - {MIX}
    problems = []
    for name in sources_of(data):
        given = data.get(name, {})
        if not isinstance(given, dict) or "name" in given:
            continue
        if name in SHARED:
            problems.append(
                f"data.sources: {name!r}: for synthetic images take any other source, with "
                "data.NAME.root=phantom"
            )
        elif name in known:
            file = {key: one for key, one in compose(name).items() if key not in SHARED}
            data = data | {name: _laid_over(file, given)}
        else:
            problems.append(
                f"data.sources: {name!r} is no choice of data.{nearest(name, known)} Allowed: "
                f"{', '.join(sorted(known))}"
            )
    if problems:
        raise ConfigError("\n".join(problems))
    raw["data"] = data


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _laid_over(below[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(below.get(key), dict)
    }
    return {**below, **above, **both}


def source_problems(
    section: Mapping[str, Any],
    model: type[Section],
    origin: Mapping[str, str],
) -> list[str]:
    """Say what is wrong with the keys of a mix, a sentence each.

    Parameters
    ----------
    section
        The section of data.
    model
        Its class.
    origin
        Where dotted keys were set, for the messages.
    """
    named = sources_of(section)
    problems = []
    for key in section:
        if key not in model.model_fields and key not in named:
            allowed = (*model.model_fields, *named)
            inner = next((one for one in origin if one.startswith(f"data.{key}.")), f"data.{key}")
            problems.append(
                f"data.{key}{place(inner, origin)}: no such key.{nearest(key, allowed)} It is "
                f"neither a source ({', '.join(named)}) nor one of {', '.join(model.model_fields)}"
            )
    for name in named:
        given = section.get(name)
        if isinstance(given, DataConfig):
            continue
        if not isinstance(given, dict):
            problems.append(
                f"data.{name}={given}{place(f'data.{name}', origin)}: a source is a section of "
                f"keys, e.g. data.{name}.root=FOLDER"
            )
            continue
        for key in SHARED:
            # data.image=COLUMN is what data=table calls its column of files
            if key in given and not (key == "image" and isinstance(given[key], str)):
                dotted = f"data.{name}.{key}"
                problems.append(
                    f"{dotted}{place(dotted, origin)}: set once for the whole mix, by data.{key}"
                )
    return problems
