from __future__ import annotations

import math

from schemas.rows import Conversation, RowFormat
from schemas.rules import SetRule
from tasks._features import Part, compare_rows, place_rows


def row(line: int, prompt: str, answer: str) -> Conversation:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Conversation("a.jsonl", line, RowFormat.MESSAGES, messages)


def test_rows_are_compared_and_counted_once() -> None:
    train = [row(1, "a", "x"), row(2, "A ", "x"), row(3, "a", "x"), row(4, "b", "x")]
    held_out = [row(5, "B", "y"), row(6, "c", "x")]
    places = place_rows(train, Part.TRAIN) + place_rows(held_out, Part.EVAL)
    table = compare_rows(places, n_quarantined_rows=2, n_rows=9)
    frame = table.frame()
    assert frame["part"].tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 3]
    assert frame["is_bad"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert frame["is_usable"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0, 0]
    # Row 3 repeats row 1 exactly; row 2 differs in case, so it is no duplicate.
    assert frame["is_duplicate"].tolist()[:6] == [0, 0, 1, 0, 0, 0]
    # Rows 4 and 5 ask the same and answer x and y.
    assert frame["is_contradictory"].tolist()[:6] == [0, 0, 0, 1, 1, 0]
    assert frame["is_overlapping"].tolist()[4:6] == [1, 0]
    assert all(math.isnan(value) for value in frame["is_overlapping"].tolist()[:4])
    assert all(math.isnan(value) for value in frame["is_duplicate"].tolist()[6:])
    assert [e.detail for e in table.examples[SetRule.DUPLICATE_FRACTION]] == ["same as a.jsonl:1"]
    assert [e.line for e in table.examples[SetRule.CONTRADICTORY_FRACTION]] == [4, 5]
    assert [e.detail for e in table.examples[SetRule.TRAIN_EVAL_OVERLAP]] == [
        "its prompt is trained at a.jsonl:4"
    ]


def test_answers_that_differ_only_in_space_do_not_contradict() -> None:
    places = place_rows([row(1, "a", "Two  metres"), row(2, "a", "two metres")], Part.TRAIN)
    assert compare_rows(places, 0, 2).columns["is_contradictory"] == [0, 0]


def test_at_most_five_places_are_shown() -> None:
    places = place_rows([row(n, "a", "x") for n in range(9)], Part.TRAIN)
    assert len(compare_rows(places, 0, 9).examples[SetRule.DUPLICATE_FRACTION]) == 5
