"""Evaluation rows that stay the same across retrains, from a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from schemas.base import Record
from schemas.config.run import DataSource, SplitConfig
from schemas.rule_ids import RowRule, RuleSetting, Severity
from tasks.dataset.refusal import rejection
from tasks.dataset.row_pass import SetPass, watch_source, write_rows
from tasks.engine.redaction import without_secrets
from tasks.rows.check import CheckRequest
from tasks.rows.tally import RowTally
from tasks.sources.source import source_fingerprint

NAMES = {"split.pinned": "pinned evaluation set"}


class PinnedRules(Record):
    """What pinned rows are checked against: the same as the rows of the data."""

    rules: Mapping[RowRule, RuleSetting] = Field(default_factory=dict)
    """Severity per row rule, as in `data.rules`."""
    special_tokens: tuple[str, ...] = ()
    """Of the model."""


def pinned_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Fingerprint the pinned rows of `split`; empty where no rows are pinned."""
    split: SplitConfig = arguments["split"]
    return source_fingerprint({"source": split.pinned}) if split.pinned else ""


def write_pinned(
    source: DataSource, path: Path, pinned: PinnedRules, where: str = "split.pinned"
) -> int:
    """Check the pinned rows and write them in canonical form; each must be good.

    Args:
        source: Where they are.
        path: Gets them, as `kept.jsonl`.
        pinned: What they are checked against.
        where: The setting that names them.

    Returns:
        Their number.

    Raises:
        DataRejected: A row breaks a blocking rule.
    """
    tally = RowTally(pinned.rules)
    request = CheckRequest(tally.severities, pinned.special_tokens, has_conversations=True)
    check = SetPass(request)
    write_rows(watch_source(source, check, tally), kept=path)
    if tally.n_quarantined_rows:
        broken = [found for found in tally.results() if found.severity == Severity.BLOCK]
        name = f"the {NAMES.get(where, 'retention set')} {without_secrets(source.source)}"
        rejected = rejection("", broken, n_rows=tally.n_rows, where=name)
        rejected.where = where
        raise rejected
    return tally.n_rows
