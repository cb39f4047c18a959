"""Validation errors in plain words: what was given, where, what is allowed, the nearest match."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cxr_lightning.errors import nearest

__all__ = ["explain", "place"]

_PLAIN = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text (quote it)",
    "path_type": "must be a path",
    "tuple_type": "must be a list, e.g. [a,b]",
    "dict_type": "must be a mapping, e.g. {a: 1}",
    "model_type": "must be a section of keys and values",
}


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: tuple[str, ...],
    origin: Mapping[str, str],
) -> list[str]:
    """Return one sentence per problem of a pydantic error.

    Parameters
    ----------
    error
        What pydantic raised.
    model
        The class that was validated; its fields are what is allowed.
    prefix
        Where the class sits in the whole configuration, e.g. ``("data",)``.
    origin
        Where keys and sections were set: dotted key, or section, to a name for it.
    """
    grouped: dict[tuple[Any, ...], list[ErrorDetails]] = {}
    for detail in error.errors():
        grouped.setdefault(_field_path(model, detail["loc"]), []).append(detail)
    return [_sentence(path, details, model, prefix, origin) for path, details in grouped.items()]


def _field_path(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[Any, ...]:
    """Drop the tags that pydantic adds for the branches of a union."""
    path: list[Any] = []
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            path.append(part)
            continue
        if current is None:
            break
        path.append(part)
        field = current.model_fields.get(part)
        current = _model_in(field.annotation) if field else None
    return tuple(path)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the section that a field holds, itself or as the items of a list."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _sentence(
    path: tuple[Any, ...],
    details: list[ErrorDetails],
    model: type[BaseModel],
    prefix: tuple[str, ...],
    origin: Mapping[str, str],
) -> str:
    dotted = ".".join(str(part) for part in (*prefix, *path)) or "configuration"
    detail = details[0]
    given, kind = detail["input"], detail["type"]
    where = place(dotted, origin)
    owner = _owner(model, path)
    if kind == "extra_forbidden":
        allowed = sorted(owner.model_fields)
        section = ".".join(dotted.split(".")[:-1]) or "the top level"
        return (
            f"{dotted}{where}: no such key.{nearest(str(path[-1]), allowed)} "
            f"{section} has: {', '.join(allowed)}"
        )
    if kind == "is_instance_of":
        return f"(section) {dotted}"
    if kind == "missing":
        return f"{dotted}: required, but not given{_meaning(owner, path)}"
    if kind == "value_error":
        said = str(detail["ctx"]["error"])
        return f"{dotted}{where}: {said}" if (*prefix, *path) else said
    wording = " or ".join(dict.fromkeys(_wording(one) for one in details))
    return (
        f"{dotted}={_shown(given)}{where}: {wording}.{_hint(details, given)}{_meaning(owner, path)}"
    )


def _wording(detail: ErrorDetails) -> str:
    if detail["type"] == "literal_error":
        return f"must be one of {detail['ctx']['expected']}"
    message = detail["msg"].replace("Input should be", "must be")
    return _PLAIN.get(detail["type"], message[:1].lower() + message[1:])


def _hint(details: list[ErrorDetails], given: Any) -> str:
    words = [
        word.strip("'")
        for one in details
        if one["type"] == "literal_error"
        for word in one["ctx"]["expected"].replace(" or ", ", ").split(", ")
    ]
    return nearest(str(given), words) if words else ""


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def place(dotted: str, origin: Mapping[str, str]) -> str:
    """Return where a key, or the section it is in, was set: " (command line)", or nothing."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if named := origin.get(".".join(parts[:end])):
            return f" ({named})"
    return ""


def _owner(model: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel]:
    current = model
    for part in path[:-1]:
        field = current.model_fields.get(part) if isinstance(part, str) else None
        inner = _model_in(field.annotation) if field else None
        current = inner or current
    return current


def _meaning(owner: type[BaseModel], path: tuple[Any, ...]) -> str:
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    field = owner.model_fields.get(name)
    return f" ({field.description})" if field and field.description else ""
