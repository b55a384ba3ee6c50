"""The narrow per-row feature table that the set rules look at: numbers only, one line a row."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from schemas.rows import Conversation
from schemas.rules import RuleExample, SetRule
from tasks._prompts import (
    answer_text,
    conversation_key,
    normalise_text,
    normalised_prompt,
    text_key,
)

MOST_EXAMPLES = 5
NOT_APPLICABLE = math.nan


class Part(IntEnum):
    """Where a row of the table comes from."""

    TRAIN = 0
    EVAL = 1
    UNUSED = 2
    QUARANTINE = 3


@dataclass(frozen=True, slots=True)
class RowPlace:
    """One kept row: where it stands and the keys it is compared by."""

    part: Part
    row: int
    file: str
    line: int
    whole: bytes
    prompt: bytes
    answer: bytes


@dataclass
class FeatureTable:
    """Columns of equal length, and places to show for each rule."""

    columns: dict[str, list[float]]
    examples: dict[SetRule, list[RuleExample]] = field(default_factory=lambda: defaultdict(list))

    def frame(self) -> Any:
        """Make the table great-expectations looks at.

        Returns:
            A pandas frame of floats, null where a feature does not apply.
        """
        import pandas

        return pandas.DataFrame(self.columns, dtype="float64")

    def show(self, rule: SetRule, place: RowPlace, detail: str) -> None:
        """Remember a place where a rule is broken, up to five.

        Args:
            rule: The rule.
            place: The row.
            detail: What was seen.
        """
        if len(self.examples[rule]) < MOST_EXAMPLES:
            self.examples[rule].append(RuleExample(file=place.file, line=place.line, detail=detail))


def place_rows(conversations: Iterable[Conversation], part: Part) -> list[RowPlace]:
    """Reduce conversations to the keys they are compared by.

    Args:
        conversations: Kept rows, in order.
        part: Where they come from.

    Returns:
        Their places; 48 bytes of keys each, so millions fit into memory.
    """
    return [
        RowPlace(
            part,
            row,
            found.file,
            found.line,
            conversation_key(found.messages),
            text_key(normalised_prompt(found.messages)),
            text_key(normalise_text(answer_text(found.messages))),
        )
        for row, found in enumerate(conversations)
    ]


def compare_rows(places: Sequence[RowPlace], n_quarantined_rows: int, n_rows: int) -> FeatureTable:
    """Fill in the features that need no tokens.

    Args:
        places: Kept rows, training before evaluation.
        n_quarantined_rows: Rows that were set aside.
        n_rows: All rows; those neither kept here nor set aside count as unused.

    Returns:
        A table with `part`, `row`, `is_bad`, `is_usable`, `is_duplicate`, `is_contradictory`,
        `is_overlapping`: the kept rows first, then unused ones, then those set aside.
    """
    n_unused = n_rows - n_quarantined_rows - len(places)
    rest = [NOT_APPLICABLE] * (n_unused + n_quarantined_rows)
    table = FeatureTable({})
    table.columns = {
        "part": [
            *(float(place.part) for place in places),
            *[float(Part.UNUSED)] * n_unused,
            *[float(Part.QUARANTINE)] * n_quarantined_rows,
        ],
        "row": [*(float(place.row) for place in places), *rest],
        "is_bad": [0.0] * (len(places) + n_unused) + [1.0] * n_quarantined_rows,
        "is_usable": [1.0] * len(places) + [0.0] * len(rest),
        "is_duplicate": _duplicates(places, table) + rest,
        "is_contradictory": _contradictions(places, table) + rest,
        "is_overlapping": _overlaps(places, table) + rest,
    }
    return table


def _duplicates(places: Sequence[RowPlace], table: FeatureTable) -> list[float]:
    """Mark each conversation that stands earlier already."""
    first: dict[bytes, RowPlace] = {}
    marks = []
    for place in places:
        earlier = first.setdefault(place.whole, place)
        marks.append(float(earlier is not place))
        if earlier is not place:
            detail = f"same as {earlier.file}:{earlier.line}"
            table.show(SetRule.DUPLICATE_FRACTION, place, detail)
    return marks


def _contradictions(places: Sequence[RowPlace], table: FeatureTable) -> list[float]:
    """Mark each row whose prompt has another answer somewhere."""
    answers: dict[bytes, set[bytes]] = defaultdict(set)
    for place in places:
        answers[place.prompt].add(place.answer)
    marks = []
    for place in places:
        n_answers = len(answers[place.prompt])
        marks.append(float(n_answers > 1))
        if n_answers > 1:
            detail = f"its prompt has {n_answers} different answers"
            table.show(SetRule.CONTRADICTORY_FRACTION, place, detail)
    return marks


def _overlaps(places: Sequence[RowPlace], table: FeatureTable) -> list[float]:
    """Mark each evaluation row whose prompt is trained; other rows are not looked at."""
    trained = {place.prompt: place for place in places if place.part == Part.TRAIN}
    marks = []
    for place in places:
        if place.part != Part.EVAL:
            marks.append(NOT_APPLICABLE)
            continue
        twin = trained.get(place.prompt)
        marks.append(float(twin is not None))
        if twin:
            detail = f"its prompt is trained at {twin.file}:{twin.line}"
            table.show(SetRule.TRAIN_EVAL_OVERLAP, place, detail)
    return marks
