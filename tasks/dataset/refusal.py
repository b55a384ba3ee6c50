"""Errors of rejected data: counts, places and a fix, and a copy of the evidence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from schemas.errors import DataRejected
from schemas.rule_ids import RuleResult
from tasks.engine.cache import OutputFolder
from tasks.engine.home import work_directory
from tasks.engine.wording import number


def describe(result: RuleResult, n_rows: int, where: str) -> str:
    """Describe what one rule found, with a line of examples when there are some."""
    limit = 0 if result.limit is None else result.limit
    if result.id == "min_rows":
        return f"{number(result.observed or 0)} usable rows in {where} broke rule min_rows (at least {limit:g})."
    if not result.n_rows:
        found = (
            f"{number(result.observed or 0)} in {where} broke rule {result.id} (limit {limit:g})."
        )
        return "\n".join(filter(None, [found, f"  {result.detail}" if result.detail else ""]))
    sentence = (
        f"{result.n_rows:,} of {n_rows:,} rows in {where} broke rule {result.id} (limit {limit:g})."
    )
    return "\n".join(filter(None, [sentence, places(result)]))


def places(result: RuleResult) -> str:
    """List a rule's examples on one line: `line 17: user, user`; with file names if they differ.

    Places in a row with the same detail are listed together: `lines 17, 18: user, user`.
    """
    has_files = len({example.file for example in result.examples}) > 1
    parts = []
    for (file, detail), found in groupby(result.examples, key=lambda e: (e.file, e.detail)):
        lines = [str(example.line) for example in found]
        name = "line" if len(lines) == 1 else "lines"
        parts.append(f"{file + ' ' if has_files else ''}{name} {', '.join(lines)}: {detail}")
    return "  " + "   ".join(parts) if parts else ""


def rejection(
    headline: str, broken: Sequence[RuleResult], *, n_rows: int, where: str
) -> DataRejected:
    """Make the error of rejected data.

    Args:
        headline: What was decided, if the rules do not say it already; may be empty.
        broken: Rules that led to it, each with its examples.
        n_rows: Rows looked at.
        where: Name of the data.

    Returns:
        The error, to be raised; its `where` is for the folder with the evidence.
    """
    lines = [headline] if headline else []
    lines.extend(describe(result, n_rows, where) for result in broken)
    fixes = list(dict.fromkeys(result.fix for result in broken if result.fix))
    return DataRejected(
        "\n".join(lines),
        fix="; ".join(fixes) + (", then run again." if fixes else ""),
    )


def keep_evidence(output: OutputFolder, names: Sequence[str]) -> Path:
    """Copy files of a discarded output to `rejected/<stage>/<key>/` in the work directory."""
    folder = work_directory() / "rejected" / output.key.stage / output.key.digest
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (output.path / name).is_file():
            shutil.copyfile(output.path / name, folder / name)
    os.utime(folder)  # data rejected again: the time by which old evidence is removed
    return folder
