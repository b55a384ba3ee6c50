"""Stage `check_schema`: part usable rows from those that break a row rule, with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.conversation import CheckedRow
from schemas.errors import DataRejected
from schemas.records import CheckedReference, DatasetReference
from schemas.rows import SourceRow
from schemas.rules import RowRule, RuleSetting
from tasks._cache import OutputFolder, locate
from tasks._keys import file_sha256
from tasks._lines import json_line, read_lines
from tasks._progress import progress_bar
from tasks._rejection import keep_evidence, rejection
from tasks._row_check import RowTally
from tasks._stage import stage_task

FILES = ("kept.jsonl", "quarantine.jsonl", "rules.json")


def part_rows(
    rows: Path, n_rows: int, settings: Mapping[RowRule, RuleSetting], folder: Path
) -> RowTally:
    """Check every row and write it to one of two files.

    Args:
        rows: A file of rows, as `load_dataset` writes it.
        n_rows: How many, for the progress bar.
        settings: Severity per row rule.
        folder: Gets `kept.jsonl`, `quarantine.jsonl` and `rules.json`.

    Returns:
        The counts.
    """
    tally = RowTally(settings)
    source = (SourceRow.from_json(line) for line in read_lines(rows))
    with (
        (folder / "kept.jsonl").open("w", encoding="utf-8", newline="\n") as kept,
        (folder / "quarantine.jsonl").open("w", encoding="utf-8", newline="\n") as quarantine,
    ):
        for row in progress_bar(tally.check(source), total=n_rows, label="check", unit="row"):
            if row.conversation:
                kept.write(json_line(row.conversation.to_json()))
            else:
                quarantine.write(json_line(_quarantined(row)))
    results = [result.model_dump(mode="json") for result in tally.results()]
    (folder / "rules.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return tally


def _quarantined(row: CheckedRow) -> dict[str, Any]:
    """Lay a rejected row out with the rules it breaks and the row as it was."""
    return {
        "file": row.source.file,
        "line": row.source.line,
        "rules": [str(violation.rule) for violation in row.violations],
        "reason": "; ".join(f"{v.rule}: {v.detail}" for v in row.violations),
        "row": row.source.row,
    }


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


@stage_task(timeout_seconds=4 * 3600, libraries=("pandera", "polars"))
def check_schema(
    output: OutputFolder, dataset: DatasetReference, rules: dict[RowRule, RuleSetting]
) -> CheckedReference:
    """Hold every row to the row rules.

    Args:
        output: Gets `kept.jsonl`, `quarantine.jsonl`, `rules.json`.
        dataset: The rows.
        rules: Severity per row rule.

    Returns:
        Reference to the kept rows, with counts.

    Raises:
        DataRejected: No row can be used, or a rule is broken beyond its limit.
    """
    tally = part_rows(locate(dataset, "rows.jsonl"), dataset.n_rows, rules, output.path)
    refusal = refuse(tally, dataset.source)
    if refusal:
        refusal.where = str(keep_evidence(output, FILES))
        raise refusal
    return output.commit(
        CheckedReference,
        n_rows=tally.n_rows,
        n_kept_rows=tally.n_kept_rows,
        n_quarantined_rows=tally.n_rows - tally.n_kept_rows,
        kept_sha256=file_sha256(output.path / "kept.jsonl"),
        formats=tally.format_counts(),
        rules=tally.results(),
    )
