"""What a reader says of the rows that the data gate names in real data: right, or a false alarm.

`sample_verdicts.json` has, by rule, the places that were read: the name of the set with file and line, and
the verdict. Up to `SAMPLE` rows of a rule are read, drawn over all sets by a hash of their place.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.config.run import DataSource
from schemas.rule_ids import Verdict
from tasks.dataset.check_file import CheckReport
from tasks.sources.source import read_rows

VERDICTS = Path(__file__).with_name("sample_verdicts.json")
SAMPLE = 20
OF_ONE_SET = 3
"""Rows of a rule that one set gives."""
SHOWN_CHARACTERS = 3000
NOT_READ = ("bad_row_fraction", "min_rows")
"""Rules that repeat what others found."""


@dataclass(frozen=True)
class Place:
    """A row that a rule named."""

    key: str
    detail: str
    source: DataSource
    file: str
    line: int


@dataclass
class Found:
    """What the rules named in all sets."""

    n_sets: int = 0
    n_rows: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    """Sets with a warning, by rule."""
    failed: Counter[str] = field(default_factory=Counter)
    """Sets that the rule rejects."""
    places: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, source: DataSource, report: CheckReport) -> None:
        """Count what the rules say of one set."""
        self.n_sets += 1
        self.n_rows += report.n_rows
        for rule in report.rules:
            if rule.verdict not in (Verdict.WARNED, Verdict.FAILED) or rule.id in NOT_READ:
                continue
            self.rows[rule.id] += rule.n_rows
            counted = self.warned if rule.verdict == Verdict.WARNED else self.failed
            counted[rule.id] += 1
            places = [
                Place(f"{name}: {each.file}:{each.line}", each.detail, source, each.file, each.line)
                for each in rule.examples
            ]
            self.places[rule.id] += sorted(places, key=_drawn)[:OF_ONE_SET]

    def sample(self, rule: str) -> list[Place]:
        """Draw the rows of a rule that are to be read."""
        return sorted(self.places[rule], key=_drawn)[:SAMPLE]


def _drawn(place: Place) -> str:
    return hashlib.sha256(place.key.encode()).hexdigest()


def table(found: Found) -> str:
    """Format a line for each rule: rows, sets, and what the reader said of the sample.

    Args:
        found: Of all sets.

    Returns:
        A table in Markdown.
    """
    verdicts = json.loads(VERDICTS.read_text(encoding="utf-8"))
    lines = [
        f"{found.n_rows:,} rows of {found.n_sets:,} sets",
        "",
        "| rule | rows | sets that warn | sets that block | read | right |",
        "|---|---|---|---|---|---|",
    ]
    for rule, n_rows in found.rows.most_common():
        known = verdicts.get(rule, {})
        said = [known[place.key] for place in found.sample(rule) if place.key in known]
        lines.append(
            f"| {rule} | {n_rows:,} | {found.warned[rule]:,} | {found.failed[rule]:,} "
            f"| {len(said)} | {sum(said)} |"
        )
    return "\n".join(lines) + "\n"


def unread(found: Found) -> Iterable[dict[str, Any]]:
    """List the rows of the samples that are not read yet.

    Args:
        found: Of all sets.

    Yields:
        Rule, place, what was seen, and the beginning of the row as JSON.
    """
    verdicts = json.loads(VERDICTS.read_text(encoding="utf-8"))
    for rule in found.rows:
        for place in found.sample(rule):
            if place.key not in verdicts.get(rule, {}):
                yield {"rule": rule, "place": place.key, "detail": place.detail, "row": _row(place)}


def _row(place: Place) -> str:
    rows = (
        row for row in read_rows(place.source) if (row.file, row.line) == (place.file, place.line)
    )
    return json.dumps(next(rows).row, ensure_ascii=False)[:SHOWN_CHARACTERS]
