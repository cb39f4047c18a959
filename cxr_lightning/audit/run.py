"""Decode, audit, report: what `prepare` does."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock
from rich.progress import Progress

from cxr_lightning.audit.collect import audit_cohort
from cxr_lightning.audit.findings import Audit
from cxr_lightning.audit.page import audit_json, audit_page
from cxr_lightning.config.schema import DataConfig
from cxr_lightning.data.base import decode
from cxr_lightning.data.cohort import build_cohort
from cxr_lightning.data.tabular import fit_tabular
from cxr_lightning.errors import ConfigError
from cxr_lightning.terminal import Reporter
from cxr_lightning.whole_file import whole_file

__all__ = ["prepare"]


def prepare(config: DataConfig, out: Path) -> Audit:
    """Fill the cache of a data set, audit it, and write `audit.json` and `audit.html` to `out`.

    Raises
    ------
    ConfigError, DataError
        The configuration or the data set's tables cannot be used.
    """
    reporter = Reporter()
    lock = out / ".lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.touch()  # before every image was looked at
    except OSError as error:
        raise ConfigError(f"--output {out}: cannot be written to: {error.strerror}") from None
    # What reading would refuse is counted, and told with all the rest.
    cohort = build_cohort(config.model_copy(update={"on_bad_image": "skip"}))
    fit_tabular(cohort.table, config.tabular, cohort.labels)  # refuses what a fit would refuse
    cache = decode(cohort, config, progress=True)
    with Progress(console=reporter.console, transient=True) as progress:
        task = progress.add_task("looking at every image", total=len(cohort.table))
        audit = audit_cohort(
            cohort, cache, config, advance=lambda images: progress.advance(task, images)
        )
    reporter.cohort(cohort, config.name)
    for text in audit.warnings:
        reporter.say(f"worth a look: {text}", style="yellow")
    for text in audit.invalid:
        reporter.say(f"would invalidate a study: {text}", style="bold red")
    if not audit.invalid:
        reporter.say("nothing found that would invalidate a study", style="green")
    texts = {
        "audit.json": audit_json(audit, config),
        "audit.html": audit_page(audit, cache, config),
    }
    with FileLock(lock):  # two that shared the work of one cache end at nearly the same time
        for name, text in texts.items():
            with whole_file(out / name) as partial:
                partial.write_text(text, encoding="utf-8")
    reporter.say(f"the whole audit: {out / 'audit.html'} and {out / 'audit.json'}")
    return audit
