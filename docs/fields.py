"""The configuration reference, written from the schema that `--help` prints too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic.fields import FieldInfo

from cxr_lightning.assessment.options import EvaluateOptions
from cxr_lightning.config.groups import GROUPS, SWEEP, choices, group_description, search_path
from cxr_lightning.config.help import VERBS, describe_default, describe_type, fields_of, sections
from cxr_lightning.config.schema import Section
from cxr_lightning.explanation.options import ExplainOptions
from cxr_lightning.hpo.space import PrunerConfig, SamplerConfig
from cxr_lightning.inference.options import ExportOptions, PredictOptions

__all__ = ["fields_as_markdown"]

OPTIONS: dict[str, type[Section]] = {
    "evaluate": EvaluateOptions,
    "explain": ExplainOptions,
    "predict": PredictOptions,
    "export": ExportOptions,
}


def fields_as_markdown() -> str:
    """Return groups, their choices and every field as Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    folders = search_path(None)
    yield "## Verbs\n"
    yield from _table(("verb", "what it does"), ((f"`{k}`", text) for k, text in VERBS.items()))
    yield "## Groups and choices\n"
    for group, meaning in (GROUPS | SWEEP).items():
        yield f"### `{group}`\n\n{_cell(meaning[:1].upper() + meaning[1:])}.\n"
        files = choices(group, folders)
        rows = ((f"`{group}={name}`", group_description(file)) for name, file in files.items())
        yield from _table(("choice", "what it is"), rows)
    yield "## Fields\n"
    for title, fields in sections(folders):
        yield f"### {title}\n"
        yield from _fields(fields)
    yield (
        "`trainer` also takes every other option of Lightning's Trainer by its own name, e.g. "
        "`trainer.limit_train_batches=10`.\n"
    )
    yield "## Fields of a sweep\n"
    for key, section in (("sampler", SamplerConfig), ("pruner", PrunerConfig)):
        yield f"### sweep.{key}\n"
        yield from _fields(fields_of(section, f"sweep.{key}"))
    yield "## Options of the other verbs\n"
    for verb, section in OPTIONS.items():
        yield f"### {verb} options\n"
        yield from _fields((key.removeprefix("."), one) for key, one in fields_of(section, ""))


def _fields(fields: Iterable[tuple[str, FieldInfo]]) -> Iterator[str]:
    rows = (
        (
            f"`{key}`",
            f"`{describe_type(field)}`",
            f"`{describe_default(field)}`",
            field.description or "",
        )
        for key, field in fields
    )
    yield from _table(("field", "type and range", "default", "meaning"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"
    yield ""


def _cell(text: str) -> str:
    """Keep a cell a cell: | would end it, and < or * outside of code would be markup."""
    if not text.startswith("`"):
        for sign in "<*_[]$":
            text = text.replace(sign, f"\\{sign}")
    return text.replace("|", "\\|")
