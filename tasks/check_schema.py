"""Stage `check_schema`: set rows that break a row rule aside, with the reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from schemas.errors import DataRejected
from schemas.records.references import CheckedReference, DatasetReference
from schemas.rule_ids import RowRule, RuleSetting
from tasks.dataset.refusal import keep_evidence, rejection
from tasks.dataset.row_pass import SetPass, write_rows
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.stage import stage_task
from tasks.rows.check import CheckRequest
from tasks.rows.tally import RowTally
from tasks.sources.stored_rows import stored_parts

FILES = ("kept.jsonl", "quarantine.jsonl", "rules.json")
CONTENT = b',"format":'
"""Begins what follows file and line in `kept.jsonl`."""


def check_rows(
    dataset: DatasetReference, tally: RowTally, special_tokens: tuple[str, ...], folder: Path
) -> None:
    """Check every row and write `kept.jsonl`, `quarantine.jsonl` and `rules.json` to the folder.

    A row's format is compared with that of the first row of its own source.
    """
    request = CheckRequest(tally.severities, special_tokens, has_conversations=True)
    sizes = [source.n_rows for source in dataset.sources]
    parts = stored_parts(locate(dataset, "rows.jsonl"), sizes)
    outcomes = (outcome for part in parts for outcome in SetPass(request).outcomes(part, tally))
    write_rows(outcomes, kept=folder / "kept.jsonl", quarantine=folder / "quarantine.jsonl")
    results = [result.model_dump(mode="json") for result in tally.results()]
    (folder / "rules.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


def content_sha256(kept: Path) -> str:
    """Hash rows in their order, without their files and line numbers.

    So a renamed file, or a blank line in it, is no other dataset.

    Args:
        kept: `kept.jsonl`.

    Returns:
        The sha256.
    """
    digest = hashlib.sha256()
    with kept.open("rb") as stream:
        for line in stream:
            digest.update(line[line.index(CONTENT) :])  # quotes in a file name are escaped
    return digest.hexdigest()


def find_rejection(tally: RowTally, source: str) -> DataRejected | None:
    """Reject the data when no row is left, or when a rule is broken beyond its own limit."""
    if not tally.n_kept_rows:
        headline = f"none of {tally.n_rows:,} rows in {source} can be used."
        return rejection(headline, tally.results(), n_rows=tally.n_rows, where=source)
    exceeded = tally.exceeded()
    return rejection("", exceeded, n_rows=tally.n_rows, where=source) if exceeded else None


@stage_task(timeout_seconds=4 * 3600)
def check_schema(
    output: OutputFolder,
    dataset: DatasetReference,
    rules: dict[RowRule, RuleSetting],
    special_tokens: tuple[str, ...],
) -> CheckedReference:
    """Check every row against the row rules.

    Args:
        output: Gets `kept.jsonl`, `quarantine.jsonl`, `rules.json`.
        dataset: The rows.
        rules: Severity per row rule.
        special_tokens: Of the model; no message may contain them.

    Returns:
        Reference to the kept rows, with counts.

    Raises:
        DataRejected: No row can be used, or a rule is broken beyond its limit.
    """
    tally = RowTally(rules)
    check_rows(dataset, tally, special_tokens, output.path)
    rejected = find_rejection(tally, dataset.source)
    if rejected:
        rejected.where = str(keep_evidence(output, FILES))
        raise rejected
    return output.commit(
        CheckedReference,
        n_rows=tally.n_rows,
        n_kept_rows=tally.n_kept_rows,
        n_quarantined_rows=tally.n_quarantined_rows,
        kept_sha256=content_sha256(output.path / "kept.jsonl"),
        formats=tally.format_counts(),
        conversions=dict(Counter(dataset.conversions) + Counter(tally.conversion_counts())),
        unused_fields=tally.unused_field_counts(),
        rules=tally.results(),
    )
