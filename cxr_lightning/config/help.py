"""`--help`: verbs, groups and choices, and every field with type, range, default, meaning."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cxr_lightning.config.deferred import heavy_imports_stubbed
from cxr_lightning.config.groups import GROUPS, SWEEP, choices, group_description, search_path
from cxr_lightning.config.schema import Config, DataConfig, LossConfig
from cxr_lightning.config.validate import section_class

__all__ = [
    "VERBS",
    "describe_default",
    "describe_type",
    "fields_of",
    "print_help",
    "sections",
]

VERBS = {
    "fit": "train, evaluate on the test set, write the bundle",
    "sweep": "search for a better configuration, in trials that can be continued",
    "prepare": "decode, cache and audit a data set before anything is trained",
    "evaluate": "bundles or saved predictions on any data set: tables, figures, a report",
    "explain": "heat maps, localisation against boxes, features and clusters of a bundle",
    "predict": "probabilities, decisions and flags for images",
    "export": "a bundle's network as ONNX, proven equal to torch",
}
# Sections whose fields depend on a name, and what all of their kinds share.
_POLYMORPHIC: dict[str, type[BaseModel]] = {"data": DataConfig, "loss": LossConfig}


def print_help(
    verb: str, usage: str, *, config_dir: Path | None = None, console: Console | None = None
) -> None:
    """Print the help of a verb that takes a configuration."""
    console = console or Console(soft_wrap=False)
    folders = search_path(config_dir)
    console.print(Text(usage.strip()))
    console.print("\n[bold]Verbs[/bold] (python -m cxr_lightning.VERB)")
    console.print(_two_columns((name, text) for name, text in VERBS.items()))
    console.print("\n[bold]Groups[/bold] (GROUP=CHOICE)")
    for group, meaning in (GROUPS | (SWEEP if verb == "sweep" else {})).items():
        console.print(f"  [bold cyan]{group}[/bold cyan]: {meaning}")
        rows = [
            (f"  {name}", group_description(file)) for name, file in choices(group, folders).items()
        ]
        console.print(_two_columns(rows))
    console.print("\n[bold]Fields[/bold] (KEY=VALUE; a list is \\[a,b], nothing is null)")
    for title, fields in sections(folders):
        console.print(f"  [bold cyan]{title}[/bold cyan]")
        console.print(_field_table(fields))
    console.print(
        "trainer also takes every other option of Lightning's Trainer by its own name, e.g. "
        "trainer.limit_train_batches=10."
    )


def _two_columns(rows: Iterator[tuple[str, str]] | Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for left, right in rows:
        table.add_row(Text(f"  {left}"), Text(right))
    return table


def _field_table(rows: Sequence[tuple[str, FieldInfo]]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for key, field in rows:
        allowed = describe_type(field)
        default = describe_default(field)
        table.add_row(
            Text(f"    {key}", style="bold"),
            Text.assemble(field.description or "", (f"  [{allowed}; default {default}]", "dim")),
        )
    return table


def sections(folders: Sequence[Path]) -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """Yield every part of the configuration: its title, and its dotted keys with their fields."""
    top = [(key, field) for key, field in Config.model_fields.items() if not _section_of(field)]
    yield "top level", [(k, f) for k, f in top if k not in _POLYMORPHIC]
    for key, field in Config.model_fields.items():
        if key in _POLYMORPHIC:
            shared = _POLYMORPHIC[key]
            yield f"{key} (all)", list(fields_of(shared, key))
            for name in _module_names(key, folders):
                own = _section_for_help(key, name)
                differing = [
                    (path, one)
                    for path, one in fields_of(own, key)
                    if (before := shared.model_fields.get(path.split(".")[1])) is None
                    or (before.description != one.description and path.count(".") == 1)
                ]
                if differing:
                    yield f"{key}, where {key}.name={name}", differing
        elif section := _section_of(field):
            yield key, list(fields_of(section, key))


def _section_for_help(group: str, name: str) -> type[BaseModel]:
    try:
        with heavy_imports_stubbed():
            return section_class(group, name)
    except (AttributeError, ImportError):
        return section_class(group, name)  # uses torch or pandas while it is imported


def _module_names(group: str, folders: Sequence[Path]) -> list[str]:
    import yaml

    names = [
        yaml.safe_load(file.read_text(encoding="utf-8")).get("name")
        for file in choices(group, folders).values()
    ]
    return sorted({name for name in names if name})


def fields_of(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield dotted keys and fields of a section and the sections inside it."""
    for key, field in model.model_fields.items():
        inner = _section_of(field)
        if inner is None:
            yield f"{prefix}.{key}", field
        else:
            yield from fields_of(inner, f"{prefix}.{key}")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def describe_default(field: FieldInfo) -> str:
    """Return a field's default as one would write it on the command line."""
    if field.is_required():
        return "none: required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "none: required"
    return _plain(default)


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{','.join(_plain(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != {} else "{}"


def describe_type(field: FieldInfo) -> str:
    """Return a field's type and range in words, e.g. ``float > 0, <= 10``."""
    limits = []
    for rule in field.metadata:
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if (bound := getattr(rule, name, None)) is not None:
                limits.append(
                    f"{sign} {bound:,}" if isinstance(bound, int) else f"{sign} {bound:g}"
                )
    return " ".join([_type_name(field.annotation), ", ".join(limits)]).strip()


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return " | ".join(_plain(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join("null" if one is type(None) else _type_name(one) for one in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "mapping"
    names = {"str": "text", "int": "int", "float": "float", "bool": "true | false", "Path": "path"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return names.get(getattr(annotation, "__name__", ""), str(annotation))
