from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import polars
import pytest

import tasks.rows.features
from schemas.rows.row import SourceRow
from schemas.rule_ids import RowRule, Severity
from schemas.rules.check_rows import check_rows
from schemas.rules.row_rules import row_severities
from tasks.rows.benchmark_overlap import NgramIndex
from tasks.rows.features import (
    FeatureRequest,
    RowFeatures,
    combined_hashes,
    normalised,
    row_features,
    text_hashes,
)
from tasks.rows.near_duplicates import signatures


def chat(*said: str | tuple[str, str]) -> dict[str, Any]:
    """Make a row; texts without a role are of user and assistant by turns."""
    roles = ("user", "assistant")
    turns = [(roles[n % 2], text) if isinstance(text, str) else text for n, text in enumerate(said)]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def features(
    *rows: Any, request: FeatureRequest | None = None, is_off: bool = False
) -> RowFeatures:
    sources = [SourceRow("a.jsonl", number, row) for number, row in enumerate(rows, start=1)]
    severities = dict.fromkeys(RowRule, Severity.OFF) if is_off else row_severities({})
    return row_features(check_rows(sources, severities), request or FeatureRequest())


def same(name: str, first: Any, second: Any) -> bool:
    values = features(first, second).columns[name]
    assert len(values) == 2
    return bool(values[0] == values[1])


BASE = chat("How tall is it?", "Two metres.")


def test_lengths_and_messages_are_counted() -> None:
    found = features(
        chat("How?", "Two."),
        chat(
            ("system", "Be brief."),
            ("user", "Åh?"),
            ("assistant", "1"),
            ("user", "ab"),
            ("assistant", "cde"),
        ),
    )
    columns = {name: values.tolist() for name, values in found.columns.items()}
    assert columns["line"] == [1, 2]
    assert columns["prompt_characters"] == [4, 9 + 3 + 2]
    assert columns["answer_characters"] == [4, 1 + 3]
    assert columns["n_messages"] == [2, 5]
    assert columns["n_assistant"] == [1, 2]
    assert found.roles == {"system": 1, "user": 3, "assistant": 3}
    assert found.files == ["a.jsonl"]
    assert columns["file"] == [0, 0]
    assert (found.signatures, found.sample) == (None, [])


def test_only_rows_that_are_kept_are_measured() -> None:
    found = features(chat("a", "b"), None, chat("a", " "), chat("c", "d"), {"messages": []})
    assert found.columns["line"].tolist() == [1, 4]
    assert found.roles == {"user": 2, "assistant": 2}
    alone = features(chat("c", "d"))
    for name in ("whole", "prompt", "answer"):
        assert found.columns[name][1] == alone.columns[name][0]


def test_files_are_named_once_and_coded_in_order() -> None:
    rows = [SourceRow(name, 7, BASE) for name in ("b", "a", "b")]
    found = row_features(check_rows(rows, row_severities({})), FeatureRequest())
    assert (found.files, found.columns["file"].tolist()) == (["b", "a"], [0, 1, 0])


@pytest.mark.parametrize(
    "other",
    [
        chat("how TALL is it?", "two metres."),
        chat("  How  tall\n\tis it?", "Two metres.\n"),
        chat("Ｈow tall is it?", "Two metres."),
    ],
)
def test_case_white_space_and_coding_change_the_whole_but_neither_prompt_nor_answer(
    other: Any,
) -> None:
    assert not same("whole", BASE, other)
    assert same("prompt", BASE, other)
    assert same("answer", BASE, other)


def test_row_equal_in_every_message_has_the_same_hash_whatever_its_format() -> None:
    assert same("whole", BASE, {"prompt": "How tall is it?", "completion": "Two metres."})
    assert same("whole", {**BASE, "topic": "walls"}, BASE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (BASE, chat("How tall is she?", "Two metres.")),
        (
            BASE,
            chat(("system", "Brief."), ("user", "How tall is it?"), ("assistant", "Two metres.")),
        ),
        (chat("a", "b", "c", "d"), chat("a", "bc", "d", "d")),
        (chat("ab", "x", "c", "d"), chat("a", "bx", "c", "d")),
    ],
)
def test_another_word_or_turn_is_another_prompt(first: Any, second: Any) -> None:
    assert not same("whole", first, second)
    assert not same("prompt", first, second)


def test_prompt_is_all_before_the_last_answer() -> None:
    two_turns, other_answer = chat("a", "b", "c", "d"), chat("a", "b", "c", "e")
    assert same("prompt", two_turns, other_answer)
    assert not same("answer", two_turns, other_answer)
    assert not same("prompt", two_turns, chat("a", "x", "c", "d"))
    assert same("answer", two_turns, chat("x", "d"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            chat(("system", "a"), ("user", "b"), ("assistant", "c")),
            chat(("developer", "a"), ("user", "b"), ("assistant", "c")),
        ),
        (chat("a", "b", "a", "c"), chat("a", "c", "a", "b")),
        (chat("a", "b", "c", "b"), chat("c", "b", "a", "b")),
        (chat("a", "a"), chat("a", "a", "a", "a")),
        (chat("a", "b"), chat("b", "a")),
    ],
)
def test_role_order_and_number_of_messages_change_the_whole(first: Any, second: Any) -> None:
    assert not same("whole", first, second)


def test_tool_calls_belong_to_what_is_said() -> None:
    def calling(name: str) -> dict[str, Any]:
        calls = [{"function": {"name": name, "arguments": {}}}]
        user = {"role": "user", "content": "How?"}
        return {"messages": [user, {"role": "assistant", "content": None, "tool_calls": calls}]}

    assert not same("whole", calling("measure"), calling("weigh"))
    assert not same("answer", calling("measure"), calling("weigh"))
    assert same("prompt", calling("measure"), calling("weigh"))


def test_row_without_an_answer_is_all_prompt() -> None:
    row = {"messages": [{"role": "user", "content": "a"}]}
    found = features(row, chat("a", "b"), is_off=True)
    assert found.columns["answer"][0] == 0
    assert found.columns["n_assistant"].tolist() == [0, 1]
    assert found.columns["prompt"][0] == found.columns["prompt"][1]


def test_stable_prompt_hash_is_that_of_the_normalised_texts() -> None:
    request = FeatureRequest(for_split=True)
    found = features(chat("Be  BRIEF", "yes", "And\nnow?", "no"), request=request)
    assert found.columns["prompt"].tolist() == text_hashes(["be brief\nyes\nand now?"]).tolist()


def test_conversation_names_the_row_that_it_continues() -> None:
    """As where there is one row for each answer."""
    rows = [
        chat("Hi", "Hello."),
        chat("Hi", "Hello.", "How tall?", "Two metres."),
        chat("Hi", "Hello.", "How tall?", "Two metres.", "And wide?", "One."),
        chat("Hi", "Hello!", "How tall?", "Two metres."),
    ]
    columns = features(*rows, request=FeatureRequest(for_split=True)).columns
    whole, continued = columns["whole"].tolist(), columns["continued"].tolist()
    assert continued[:3] == [0, whole[0], whole[1]]
    assert continued[3] not in (0, *whole)
    assert "continued" not in features(*rows).columns


def test_conversation_with_tools_continues_one_with_the_same_tools() -> None:
    def listing(name: str, *turns: str) -> dict[str, Any]:
        return {**chat(*turns), "tools": [{"type": "function", "function": {"name": name}}]}

    rows = [
        listing("weigh", "Hi", "Hello."),
        listing("weigh", "Hi", "Hello.", "How tall?", "Two."),
        listing("measure", "Hi", "Hello.", "How tall?", "Two."),
    ]
    columns = features(*rows, request=FeatureRequest(for_split=True)).columns
    whole, continued = columns["whole"].tolist(), columns["continued"].tolist()
    assert continued[:2] == [0, whole[0]]
    assert continued[2] not in (0, *whole)


def test_hashes_are_the_same_in_another_process() -> None:
    code = (
        "from schemas.rules.check_rows import check_rows\n"
        "from schemas.rules.row_rules import row_severities\n"
        "from schemas.rows.row import SourceRow\n"
        "from tasks.rows.features import FeatureRequest, row_features\n"
        f"block = check_rows([SourceRow('a', 1, {BASE!r})], row_severities({{}}))\n"
        "columns = row_features(block, FeatureRequest()).columns\n"
        "print(*[int(columns[name][0]) for name in ('whole', 'prompt', 'answer')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    columns = features(BASE).columns
    expected = [int(columns[name][0]) for name in ("whole", "prompt", "answer")]
    assert [int(word) for word in done.stdout.split()] == expected


@pytest.mark.parametrize(
    ("answer", "is_label"),
    [
        ("Yes", True),
        ("  Customer   service ", True),
        ("It is two", False),
        ("x" * 29, True),
        ("x" * 30, False),
        ("2 - several.", True),
        ("x = [[-1] [2] [0]]", True),
        ("[Goldman Sachs - ORGANIZATION, Jim Ray - PERSON]", True),
        ('{"intent": "refund", "is_urgent": false}', True),
        ("We answer within 24 hours on all working days.", False),
        ("[" + "a b " * 30 + "]", False),
        ('{"name": "' + "a b " * 30 + '"}', True),
    ],
)
def test_short_answers_are_labels_or_values(answer: str, is_label: bool) -> None:
    assert features(chat("a", answer)).columns["is_label"].tolist() == [is_label]


def test_short_answer_that_the_prompt_offers_is_a_label() -> None:
    answer = "I do not know that."
    asked = chat(f"Who is it? If you cannot tell, say: {answer}", answer)
    assert features(asked).columns["is_label"].tolist() == [True]
    assert features(chat("Who is it?", answer)).columns["is_label"].tolist() == [False]
    assert features(chat(answer, answer)).columns["is_label"].tolist() == [False]


def test_hash_of_a_row_depends_on_each_message_and_its_place() -> None:
    def combined(*values: int) -> int:
        hashes = numpy.array(values, dtype=numpy.uint64)
        turns = numpy.arange(len(values), dtype=numpy.int64)
        [found] = combined_hashes(hashes, turns, numpy.array([0])).tolist()
        return int(found)

    variants = [combined(1, 2), combined(2, 1), combined(1, 2, 1), combined(1), combined(2)]
    assert len(set(variants)) == len(variants)
    nothing = numpy.zeros(0, dtype=numpy.uint64)
    assert combined_hashes(nothing, nothing, nothing).tolist() == []


def test_messages_that_do_not_count_change_nothing() -> None:
    hashes = numpy.array([1, 2, 1, 3], dtype=numpy.uint64)
    turns, starts = numpy.array([0, 1, 0, 1]), numpy.array([0, 2])
    is_counted = numpy.array([True, False, True, False])
    first, second = combined_hashes(hashes, turns, starts, is_counted).tolist()
    assert first == second
    assert len(set(combined_hashes(hashes, turns, starts).tolist())) == 2


def test_similarity_is_signed_on_all_that_is_said() -> None:
    found = features(chat("How  TALL?", "Two."), request=FeatureRequest(similarity=0.8))
    expected = signatures(polars.Series(["how tall? two."]), 0.8)
    assert found.signatures is not None
    assert numpy.array_equal(found.signatures[:, :-16], expected[:, :-16])
    assert found.signatures[:, -16:].any()


def test_benchmark_passages_are_marked() -> None:
    words = " ".join(f"word{number}" for number in range(40))
    index = NgramIndex.from_texts([words])
    found = features(
        chat("Read this.", f"It says {words.upper()}."),
        chat("a", "b"),
        request=FeatureRequest(benchmark=index),
    )
    assert found.columns["in_benchmark"].tolist() == [True, False]
    assert found.signatures is None


def test_sample_holds_the_rows_with_the_smallest_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.rows.features, "MAX_SAMPLE_ROWS", 2)
    rows = [chat("a", f"answer {number} " + "x" * 700) for number in range(5)]
    found = features(*rows, request=FeatureRequest(has_sample=True))
    smallest = sorted(found.columns["whole"].tolist())[:2]
    assert [key for key, _ in found.sample] == smallest
    for key, text in found.sample:
        row = found.columns["whole"].tolist().index(key)
        assert text == f"answer {row} " + "x" * 591
        assert len(text) == 600
    assert normalised(polars.Series([found.sample[0][1]]))[0].startswith("answer")


def calling(arguments: dict[str, int], identity: str) -> dict[str, Any]:
    call = {"id": identity, "type": "function", "function": {"name": "add", "arguments": arguments}}
    user = {"role": "user", "content": "Add them."}
    return {"messages": [user, {"role": "assistant", "content": None, "tool_calls": [call]}]}


def test_tool_calls_are_compared_by_their_arguments_and_not_by_their_ids() -> None:
    assert same("whole", calling({"a": 1, "b": 2}, "c1"), calling({"b": 2, "a": 1}, "zz1"))
    assert not same("answer", calling({"a": 1, "b": 2}, "c1"), calling({"a": 2, "b": 4}, "c1"))
