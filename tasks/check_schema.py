"""Stage `check_schema`: part usable rows from those that break a row rule, with the reason."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.errors import DataRejected
from schemas.records.references import CheckedReference, DatasetReference
from schemas.rule_ids import RowRule, RuleSetting
from tasks.dataset.refusal import keep_evidence, rejection
from tasks.dataset.row_pass import SetPass
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.keys import file_sha256
from tasks.engine.stage import stage_task
from tasks.rows.check import CheckRequest
from tasks.rows.tally import RowTally
from tasks.sources.stored_rows import stored_parts

FILES = ("kept.jsonl", "quarantine.jsonl", "rules.json")


def part_rows(
    dataset: DatasetReference, tally: RowTally, special_tokens: tuple[str, ...], folder: Path
) -> None:
    """Check every row and write it to one of two files.

    A row's format is compared with that of the first row of its own source.

    Args:
        dataset: The rows, of one source or several.
        tally: Severity per row rule; gets the counts.
        special_tokens: Of the model; they may not stand in a message.
        folder: Gets `kept.jsonl`, `quarantine.jsonl` and `rules.json`.
    """
    request = CheckRequest(tally.severities, special_tokens, has_conversations=True)
    parts = stored_parts(
        locate(dataset, "rows.jsonl"), [source.n_rows for source in dataset.sources]
    )
    with (
        (folder / "kept.jsonl").open("wb") as kept,
        (folder / "quarantine.jsonl").open("w", encoding="utf-8", newline="\n") as quarantine,
    ):
        for blocks in parts:
            for outcome in SetPass(request).outcomes(blocks, tally):
                kept.write(outcome.kept)
                quarantine.write(outcome.quarantine)
    results = [result.model_dump(mode="json") for result in tally.results()]
    (folder / "rules.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


def refuse(tally: RowTally, source: str) -> DataRejected | None:
    """Say no when no row is left, or when a rule is broken beyond its own limit.

    Args:
        tally: Counts over all rows.
        source: Name of the data.

    Returns:
        The refusal, or None when there is something to go on with.
    """
    if not tally.n_kept_rows:
        headline = f"none of {tally.n_rows:,} rows in {source} can be used."
        return rejection(headline, tally.results(), n_rows=tally.n_rows, where=source)
    exceeded = tally.exceeded()
    return rejection("", exceeded, n_rows=tally.n_rows, where=source) if exceeded else None


@stage_task(timeout_seconds=4 * 3600, libraries=("pandera", "polars", "jsonschema"))
def check_schema(
    output: OutputFolder,
    dataset: DatasetReference,
    rules: dict[RowRule, RuleSetting],
    special_tokens: tuple[str, ...],
) -> CheckedReference:
    """Hold every row to the row rules.

    Args:
        output: Gets `kept.jsonl`, `quarantine.jsonl`, `rules.json`.
        dataset: The rows.
        rules: Severity per row rule.
        special_tokens: Of the model; they may not stand in a message.

    Returns:
        Reference to the kept rows, with counts.

    Raises:
        DataRejected: No row can be used, or a rule is broken beyond its limit.
    """
    tally = RowTally(rules)
    part_rows(dataset, tally, special_tokens, output.path)
    refusal = refuse(tally, dataset.source)
    if refusal:
        refusal.where = str(keep_evidence(output, FILES))
        raise refusal
    return output.commit(
        CheckedReference,
        n_rows=tally.n_rows,
        n_kept_rows=tally.n_kept_rows,
        n_quarantined_rows=tally.n_quarantined_rows,
        kept_sha256=file_sha256(output.path / "kept.jsonl"),
        formats=tally.format_counts(),
        conversions=dict(sorted(tally.conversions.items())),
        rules=tally.results(),
    )
