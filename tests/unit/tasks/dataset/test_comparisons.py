from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy

from schemas.rows.row import SourceRow
from schemas.rule_ids import SetRule
from schemas.rules.row_rules import row_severities
from tasks.dataset.comparisons import (
    SetColumns,
    compare_rows,
    first_true,
)
from tasks.dataset.row_pass import start_pass
from tasks.rows.check import CheckRequest
from tasks.rows.feature_table import FeatureTable
from tasks.rows.features import FeatureRequest
from tasks.sources.parsing import Block

LONG = "The wall of the house was measured on the first day and found to be {} metres tall"


def compare(folder: Path, *pairs: tuple[str, str], n_bad: int = 0) -> SetColumns:
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    return compare_these(folder, *rows, n_bad=n_bad)


def compare_these(folder: Path, *rows: dict[str, Any], n_bad: int = 0) -> SetColumns:
    sources = tuple(SourceRow("a.jsonl", n, row) for n, row in enumerate(rows, start=1))
    request = CheckRequest(row_severities({}))
    check = start_pass(request, FeatureRequest(similarity=0.8), folder)
    blocks = [Block("a.jsonl", 1, rows=sources)] if rows else []
    with closing(check):
        outcomes = list(check.outcomes(blocks, None))
        check.finish()
    assert sum(found.n_kept_rows for found in outcomes) == len(rows)
    assert isinstance(check.table, FeatureTable)
    return compare_rows(check.table, n_bad)


def marked(found: SetColumns, column: str) -> list[int]:
    """Give the lines of the marked rows."""
    return [row + 1 for row in numpy.flatnonzero(found.columns[column]).tolist()]


def places(found: SetColumns, rule: SetRule) -> list[tuple[int, str]]:
    return [(example.line, example.detail) for example in found.examples[rule]]


def test_exact_repeats_are_duplicates_and_case_makes_near_ones(tmp_path: Path) -> None:
    one, other = (LONG.format("two"), "Yes, that is so."), ("Who built it?", "The mason did it.")
    found = compare(tmp_path, one, other, one, (one[0].upper(), one[1]), one)
    assert marked(found, "is_duplicate") == [3, 5]
    assert places(found, SetRule.DUPLICATE_FRACTION) == [
        (3, "same as a.jsonl:1"),
        (5, "same as a.jsonl:1"),
    ]
    assert marked(found, "is_near_duplicate") == [4]
    assert places(found, SetRule.NEAR_DUPLICATE_FRACTION) == [(4, "nearly the same as a.jsonl:1")]
    assert marked(found, "is_contradictory") == []


def test_one_word_in_thirty_makes_a_near_duplicate_and_many_do_not(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(30)]
    changed = [*words[:-1], "otherwise"]
    different = [*words[:15], *(f"else{number}" for number in range(15))]
    found = compare(
        tmp_path,
        (" ".join(words), "It is two metres."),
        (" ".join(changed), "It is two metres."),
        (" ".join(different), "It is two metres."),
    )
    assert marked(found, "is_near_duplicate") == [2]
    assert marked(found, "is_duplicate") == []


PASSAGE = " ".join(f"passage{number}" for number in range(150))


def test_questions_on_one_passage_are_no_near_duplicates_and_changed_copies_are(
    tmp_path: Path,
) -> None:
    """Between 2 and 9 rows share a passage, so it is no template of the set."""
    questions = (
        "Is the house taller than the tower beside it?",
        "Did the mason finish before the winter of that year?",
        "Does anyone still live behind the old walls?",
    )
    for way, form in enumerate(("{}\n\n{}", "{1}\n\n{0}", "{0}\n\n{1}\n\nAnswer yes or no.")):
        asked = [(form.format(PASSAGE, question), "Yes.") for question in questions]
        other = PASSAGE.replace("passage70 ", "stone ")
        copies = [
            (form.format(PASSAGE, questions[0]).replace(" is", "  Is"), "yes"),
            (form.format(other, questions[1]), "Yes."),
        ]
        found = compare(tmp_path / str(way), *asked, *copies)
        assert marked(found, "is_near_duplicate") == [4, 5]


def test_tasks_on_one_document_with_answers_of_their_own_are_no_near_duplicates(
    tmp_path: Path,
) -> None:
    tasks = {"Summarise:": "A house is measured.", "Title:": "The wall", "Keywords:": "house, wall"}
    rows = [(f"{task} {PASSAGE}", answer) for task, answer in tasks.items()]
    assert marked(compare(tmp_path, *rows), "is_near_duplicate") == []


def test_conversation_that_goes_on_is_no_near_duplicate(tmp_path: Path) -> None:
    turns = [
        (role, f"{role} {number} " + " ".join(f"w{number}x{word}" for word in range(40)))
        for number in range(8)
        for role in ("user", "assistant")
    ]
    messages = [{"role": role, "content": text} for role, text in turns]
    rows = [{"messages": messages[: 2 * n]} for n in range(1, 9)]
    assert marked(compare_these(tmp_path / "a", *rows), "is_near_duplicate") == []
    changed = [*messages[:-1], {**messages[-1], "content": f"Well, {turns[-1][1]}"}]
    rows.append({"messages": changed})
    assert marked(compare_these(tmp_path / "b", *rows), "is_near_duplicate") == [9]


TOPICS = ("tower", "bridge", "harbour", "station", "market")
PHRASINGS = (
    "What is the height of the {}?",
    "Please: what is the height of the {}?",
    "how tall would you say that {} is",
    "Can you tell me its metres, I mean the {}",
)


def test_phrasings_of_a_question_with_one_answer_are_neither_copies_nor_boilerplate(
    tmp_path: Path,
) -> None:
    rows = [
        (phrasing.format(topic), " ".join(f"{topic}{number}" for number in range(80)))
        for topic in TOPICS
        for phrasing in PHRASINGS
    ]
    free = [(f"Question {number} of all", f"Its answer is {number}.") for number in range(20)]
    found = compare(tmp_path / "a", *rows, *free)
    assert (marked(found, "is_near_duplicate"), marked(found, "is_boilerplate")) == ([], [])
    few = compare(tmp_path / "b", *rows[:4], *free)
    assert marked(few, "is_boilerplate") == [1, 2, 3, 4]
    two = [row for number, row in enumerate(rows) if number % 4 in (0, 2)]
    assert marked(compare(tmp_path / "c", *two, *free), "is_near_duplicate") == []
    copies = [row for number, row in enumerate(rows) if number % 4 < 2]
    found = compare(tmp_path / "d", *copies, *free)
    assert marked(found, "is_near_duplicate") == [2, 4, 6, 8, 10]


def test_stock_answers_to_many_prompts_are_boilerplate_beside_phrasings(tmp_path: Path) -> None:
    rows = [(phrasing.format(t), f"Its height is {t}.") for t in TOPICS for phrasing in PHRASINGS]
    stock = [(f"Question {number} of all", STOCK) for number in range(13)]
    found = compare(tmp_path, *rows, *stock, *((f"What of {n}?", f"It is {n}.") for n in range(20)))
    assert marked(found, "is_boilerplate") == list(range(21, 34))


def test_prompts_with_several_answers_contradict(tmp_path: Path) -> None:
    found = compare(
        tmp_path,
        ("How tall is it?", "Two metres."),
        ("Who built it?", "A mason."),
        ("how tall  is it?", "Three metres."),
        ("Who built it?", "a  MASON."),
    )
    assert marked(found, "is_contradictory") == [1, 3]
    assert places(found, SetRule.CONTRADICTORY_FRACTION) == [
        (1, "its prompt has 2 answers"),
        (3, "its prompt has 2 answers"),
    ]


def test_answer_that_three_prompts_share_is_boilerplate_and_two_are_not(tmp_path: Path) -> None:
    stock, other = "I am sorry, I cannot say.", "It was built by a mason."
    found = compare(
        tmp_path,
        ("How tall?", stock),
        ("How wide?", stock.upper()),
        ("Who built it?", other),
        ("Who made it?", other),
        ("who  made it?", other),
        ("How deep?", stock),
    )
    assert marked(found, "is_boilerplate") == [1, 2, 6]
    assert places(found, SetRule.BOILERPLATE_FRACTION) == [
        (line, "3 prompts have its answer") for line in (1, 2, 6)
    ]


def test_labels_are_no_boilerplate(tmp_path: Path) -> None:
    found = compare(tmp_path, *((f"Is item number {number} tall?", "Yes.") for number in range(6)))
    assert marked(found, "is_boilerplate") == []


INTENTS = [json.dumps({"intent": name, "needs_agent": False}) for name in ("card", "rate", "limit")]
STOCK = "I am sorry, but as a language model I cannot answer this question for you."


def test_long_labels_that_cover_the_set_are_no_boilerplate_and_stock_answers_are(
    tmp_path: Path,
) -> None:
    asked = [f"Question number {number} of customer {number * 7}" for number in range(30)]
    labels = [(prompt, INTENTS[number % 3]) for number, prompt in enumerate(asked)]
    assert marked(compare(tmp_path / "a", *labels), "is_boilerplate") == []
    free = [
        (prompt, f"The answer to {number} is free text.") for number, prompt in enumerate(asked)
    ]
    mixed = [(prompt, STOCK) for prompt in asked[:10]] + free[10:]
    assert len(marked(compare(tmp_path / "b", *mixed), "is_boilerplate")) == 10
    refused = [(prompt, STOCK) for prompt in asked]
    assert len(marked(compare(tmp_path / "c", *refused), "is_boilerplate")) == 30
    nearly = [(prompt, STOCK) for prompt in asked[:28]] + labels[28:]
    assert len(marked(compare(tmp_path / "d", *nearly), "is_boilerplate")) == 28


def test_labels_of_one_system_message_are_labels_beside_other_rows(tmp_path: Path) -> None:
    def asking(system: str, number: int, answer: str) -> dict[str, Any]:
        turns = (("system", system), ("user", f"Question {number}"), ("assistant", answer))
        return {"messages": [{"role": role, "content": text} for role, text in turns]}

    labels = [asking("Classify.", number, INTENTS[number % 3]) for number in range(20)]
    free = [asking("Be brief.", number, f"It is the free text {number}.") for number in range(20)]
    assert marked(compare_these(tmp_path, *labels, *free), "is_boilerplate") == []


def test_rejection_sampled_solutions_agree_and_wrong_ones_contradict(tmp_path: Path) -> None:
    def solved(way: str, value: str) -> str:
        return f"We add the boxes {way} and carry over. #### {value}"

    one = [("How many boxes are there?", solved(way, "52")) for way in ("up", "down", "left")]
    free = [
        (f"What is thing {number}?", f"It is the thing called {number}.") for number in range(9)
    ]
    assert marked(compare(tmp_path / "a", *one, *free), "is_contradictory") == []
    wrong = [*one, ("How many boxes are there?", solved("right", "51"))]
    assert marked(compare(tmp_path / "b", *wrong, *free), "is_contradictory") == [1, 2, 3, 4]


def test_many_free_answers_to_a_prompt_were_sampled_and_two_contradict(tmp_path: Path) -> None:
    prompt = "Write a line about the sea."
    sampled = [
        (prompt, f"The sea is {word} and wide today.") for word in ("blue", "grey", "old", "new")
    ]
    free = [
        (f"What is thing {number}?", f"It is the thing called {number}.") for number in range(9)
    ]
    assert marked(compare(tmp_path / "a", *sampled, *free), "is_contradictory") == []
    assert marked(compare(tmp_path / "b", *sampled[:2], *free), "is_contradictory") == [1, 2]


def test_set_made_of_several_answers_to_each_prompt_is_sampled(tmp_path: Path) -> None:
    pairs = [
        (f"Tell a story about animal number {number}.", f"Once {word} there lived a {number}.")
        for number in range(8)
        for word in ("upon a time", "long ago", "in spring")
    ]
    assert marked(compare(tmp_path / "a", *pairs), "is_contradictory") == []
    labelled = [(f"Is it {number}?", word) for number in range(8) for word in ("Yes", "No")]
    assert len(marked(compare(tmp_path / "b", *labelled), "is_contradictory")) == 16


def test_same_question_with_other_tools_or_system_neither_contradicts_nor_repeats(
    tmp_path: Path,
) -> None:
    question = LONG.format("how many") + ", said the mason, but is it true at all?"

    def asked(answer: str, tool: str, system: str) -> dict[str, Any]:
        turns = (("system", system), ("user", question), ("assistant", answer))
        function = {"type": "function", "function": {"name": tool}}
        return {
            "messages": [{"role": role, "content": text} for role, text in turns],
            "tools": [function],
        }

    first = asked("Yes, of course it is true.", "measure", "Be brief.")
    tool = asked("No tool of mine can tell.", "weigh", "Be brief.")
    system = asked("Arr, that it be, sailor.", "measure", "You are a pirate.")
    found = compare_these(tmp_path / "a", first, tool, system)
    assert marked(found, "is_contradictory") == []
    assert marked(found, "is_near_duplicate") == []
    other = asked("No, it is not true.", "measure", "Be brief.")
    found = compare_these(tmp_path / "b", first, tool, system, other)
    assert marked(found, "is_contradictory") == [1, 4]
    same = asked("Yes, of course it is true.", "weigh", "Be brief.")
    found = compare_these(tmp_path / "c", first, same, first)
    assert marked(found, "is_duplicate") == [3]


def test_texts_of_one_greatest_length_were_cut(tmp_path: Path) -> None:
    free = [(f"What is thing {number}?", "x" * (20 + number)) for number in range(20)]
    cut = [(f"Tell all of {number}.", f"{number} " + "y" * 253) for number in range(4)]
    found = compare(tmp_path / "a", *free, *cut)
    assert marked(found, "is_cut") == [21, 22, 23, 24]
    detail = "a text has 255 characters, the most there are"
    assert places(found, SetRule.CUT_TEXT_FRACTION)[0] == (21, detail)
    same = [(f"Tell all of {number}.", "y" * 255) for number in range(4)]
    assert marked(compare(tmp_path / "b", *free, *same), "is_cut") == []
    near = [(f"Tell all of {number}.", f"{number} " + "y" * (250 + number)) for number in range(4)]
    assert marked(compare(tmp_path / "c", *free, *near), "is_cut") == []


def test_bad_and_usable_rows_lengths_and_roles_are_laid_out(tmp_path: Path) -> None:
    found = compare(tmp_path, ("abc", "de"), ("f", "ghij"), n_bad=3)
    columns = {name: values.tolist() for name, values in found.columns.items()}
    assert columns["is_bad"] == [False, False, True, True, True]
    assert columns["is_usable"] == [True, True]
    assert columns["n_characters"] == [5, 5]
    assert columns["assistant_share"] == [0.5, 0.5]
    assert "is_in_benchmark" not in columns


def test_no_rows_are_compared_without_complaint(tmp_path: Path) -> None:
    found = compare(tmp_path, n_bad=2)
    assert found.columns.pop("is_bad").tolist() == [True, True]
    assert all(len(values) == 0 for values in found.columns.values())
    assert set(found.examples.values()) == {()}


def test_at_most_five_places_are_shown(tmp_path: Path) -> None:
    found = compare(tmp_path, *[("How tall is it?", "Two metres.")] * 9)
    assert marked(found, "is_duplicate") == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [line for line, _ in places(found, SetRule.DUPLICATE_FRACTION)] == [2, 3, 4, 5, 6]
    assert first_true(numpy.array([False, True, True])) == [1, 2]


def test_benchmark_passages_are_laid_out_where_they_were_looked_for(tmp_path: Path) -> None:
    table = FeatureTable(tmp_path)
    for name in ("file", "line", "whole", "prompt", "answer", "n_assistant", "n_messages"):
        table.append(name, numpy.array([0, 1]) if name != "n_messages" else numpy.array([2, 2]))
    for name in ("context", "conclusion"):
        table.append(name, numpy.array([0, 0]))
    for name in ("prompt_characters", "answer_characters", "question_characters", "is_label"):
        table.append(name, numpy.array([1, 1]))
    table.append("in_benchmark", numpy.array([False, True]))
    table.files, table.n_rows = ["a.jsonl", "b.jsonl"], 2
    found = compare_rows(table, 0)
    assert marked(found, "is_in_benchmark") == [2]
    assert places(found, SetRule.BENCHMARK_OVERLAP) == [(1, "holds a passage of a benchmark")]
