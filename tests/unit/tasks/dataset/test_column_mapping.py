from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.config.run import DataSource
from schemas.errors import DataSourceError
from tasks.dataset.column_mapping import (
    LONGEST_SHOWN,
    SAMPLE_ROWS,
    Proposal,
    propose_columns,
    shown,
    shown_list,
)
from tests.support.toy import write_jsonl

N_ROWS = 20
QUESTIONS = [f"How wide is door {number} of the house?" for number in range(N_ROWS)]
ANSWERS = [
    f"Door {number} is {number + 80} centimetres wide, measured at the frame with an open leaf."
    for number in range(N_ROWS)
]
NOTES = [f"Seen on day {number}" for number in range(N_ROWS)]
PAIR = {"prompt": "q", "completion": "a"}


def table(**columns: list[Any]) -> list[dict[str, Any]]:
    """Return the rows of a table that is written column by column."""
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def propose(tmp_path: Path, rows: list[Any], columns: dict[str, str] | None = None) -> Proposal:
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    return propose_columns(
        DataSource.model_validate({"source": str(path), "columns": columns or {}})
    )


def refusal(tmp_path: Path, rows: list[Any], columns: dict[str, str] | None = None) -> str:
    with pytest.raises(DataSourceError) as caught:
        propose(tmp_path, rows, columns)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("q", "a"),
        ("question", "answer"),
        ("Question", "Answer Text"),
        ("prompt", "response"),
        ("instruction", "response"),
        ("user", "assistant"),
        ("user_message", "assistant_message"),
        ("input", "output"),
        ("problem", "solution"),
        ("article", "highlights"),
        ("text", "label"),
        ("Frage", "Antwort"),
        ("问题", "答案"),
    ],
)
def test_names_say_which_columns_are_prompt_and_answer(
    tmp_path: Path, prompt: str, completion: str
) -> None:
    rows = table(id=list(range(N_ROWS)), **{completion: ANSWERS, prompt: QUESTIONS})
    found = propose(tmp_path, rows)
    assert found.columns == {"prompt": prompt, "completion": completion}
    assert found.outcome.n_kept_rows == N_ROWS
    assert found.unused == ("id",)
    assert found.reason == "by the names of the columns"


def test_more_than_one_answer_is_chosen_by_what_is_usual(tmp_path: Path) -> None:
    rows = table(answer=["7"] * N_ROWS, problem=QUESTIONS, solution=ANSWERS)
    assert propose(tmp_path, rows).columns == {"prompt": "problem", "completion": "solution"}


def test_names_of_different_languages_make_no_pair(tmp_path: Path) -> None:
    rows = table(fråga=QUESTIONS, antwort=ANSWERS, note=NOTES)
    assert "fit no format" in refusal(tmp_path, rows)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (
            table(instruction=QUESTIONS, context=NOTES, response=ANSWERS, category=NOTES),
            {"instruction": "instruction", "input": "context", "output": "response"},
        ),
        (
            table(
                id=NOTES, system_prompt=["", "Be brief."] * 10, question=QUESTIONS, response=ANSWERS
            ),
            {"instruction": "question", "system": "system_prompt", "output": "response"},
        ),
    ],
)
def test_texts_that_belong_to_the_prompt_are_mapped_too(
    tmp_path: Path, rows: list[Any], columns: dict[str, str]
) -> None:
    found = propose(tmp_path, rows)
    assert found.columns == columns
    assert found.outcome.formats == {"alpaca": N_ROWS}
    assert found.outcome.n_kept_rows == N_ROWS


def test_input_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    rows = table(question=QUESTIONS, context=[{"page": 1}] * N_ROWS, answer=ANSWERS)
    assert propose(tmp_path, rows).columns == {"prompt": "question", "completion": "answer"}


@pytest.mark.parametrize(
    ("row", "format_name"),
    [
        ({"prompt": "How?", "completion": "So."}, "prompt_completion"),
        ({"instruction": "How?", "input": "", "output": "So."}, "alpaca"),
        ({"conversations": [{"from": "human", "value": "How?"}]}, "sharegpt"),
        ({"messages": [{"role": "user", "content": "How?"}]}, "messages"),
    ],
)
def test_known_format_needs_no_mapping(
    tmp_path: Path, row: dict[str, Any], format_name: str
) -> None:
    found = propose(tmp_path, [row] * 3)
    assert (found.columns, found.reason) == ({}, f"known format {format_name}")
    assert found.unused == ()


def test_known_format_whose_rows_are_mostly_broken_is_not_mapped(tmp_path: Path) -> None:
    found = propose(tmp_path, [{"conversations": "none", "id": 1}] * 3)
    assert (found.columns, found.outcome.n_kept_rows) == ({}, 0)
    assert "sharegpt" in found.reason


@pytest.mark.parametrize(
    ("column", "turns"),
    [
        ("messages", [("role", "content"), ("user", "assistant")]),
        ("conversations", [("from", "value"), ("human", "gpt")]),
    ],
)
def test_only_list_of_messages_is_mapped_whatever_its_name(
    tmp_path: Path, column: str, turns: list[tuple[str, str]]
) -> None:
    (who, what), (asks, answers) = turns
    rows = [
        {"thread": [{who: asks, what: question}, {who: answers, what: answer}], "id": 1}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    assert propose(tmp_path, rows).columns == {column: "thread"}


def test_two_lists_of_messages_are_not_guessed_at(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    assert "chosen, rejected" in refusal(tmp_path, [{"chosen": turns, "rejected": turns}] * 9)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"y": ANSWERS, "x": QUESTIONS}, "most texts of x are questions"),
        ({"x": NOTES, "y": [f"{a} {a}" for a in ANSWERS]}, "y is longer"),
        ({"y": NOTES, "Question": ANSWERS}, "Question by its name"),
        ({"Answer": NOTES, "x": ANSWERS}, "Answer by its name"),
    ],
)
def test_two_columns_of_text_are_ordered_by_their_content(
    tmp_path: Path, columns: dict[str, list[str]], reason: str
) -> None:
    rows = table(id=[f"{n:04}" for n in range(N_ROWS)], kind=["a", "b"] * 10, **columns)
    found = propose(tmp_path, rows)
    expected = {"Answer": ("x", "Answer"), "Question": ("Question", "y")}
    prompt, completion = next((expected[c] for c in columns if c in expected), ("x", "y"))
    assert found.columns == {"prompt": prompt, "completion": completion}
    assert found.reason.startswith("guessed: ")
    assert reason in found.reason


@pytest.mark.parametrize(
    "rows",
    [
        table(text=ANSWERS),
        table(x=ANSWERS, y=[f"{answer}!" for answer in ANSWERS]),
        table(x=QUESTIONS, y=ANSWERS, z=NOTES),
        table(x=QUESTIONS, y=ANSWERS)[:4],
        table(text=ANSWERS, label=["0", "1"] * 10),
        table(x=QUESTIONS, y=[*ANSWERS[:10], *[""] * 10]),
        table(question=QUESTIONS, answer=[1] * N_ROWS),
    ],
    ids=["one", "alike", "three", "few", "numbers", "gaps", "no text"],
)
def test_columns_that_could_be_read_in_several_ways_are_an_error(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    text = refusal(tmp_path, rows)
    assert f"Got: columns {', '.join(rows[0])}" in text
    assert "--columns '{prompt: " in text


def test_mapping_is_proposed_for_rows_of_which_some_are_broken(tmp_path: Path) -> None:
    rows = table(q=QUESTIONS, a=[*ANSWERS[:12], *[""] * 8])
    found = propose(tmp_path, rows)
    assert found.columns == PAIR
    assert found.outcome.n_kept_rows == 12
    assert found.outcome.n_broken == {"completion_empty": 8}


def test_given_columns_are_checked_instead_of_guessed(tmp_path: Path) -> None:
    rows = table(x=QUESTIONS, y=ANSWERS, z=NOTES)
    given = {"prompt": "z", "completion": "x"}
    found = propose(tmp_path, rows, given)
    assert (found.columns, found.reason, found.seen) == (given, "as given", ("x", "y", "z"))
    assert "no row of" in refusal(tmp_path, rows, {"prompt": "x", "completion": "missing"})
    assert "fit no format" in refusal(tmp_path, rows)
    numbers = table(x=QUESTIONS, n=[1] * N_ROWS)
    text = refusal(tmp_path, numbers, {"prompt": "x", "completion": "n"})
    assert "keep none of the first 20 rows" in text
    assert f"content_not_text {N_ROWS}" in text


def test_first_thousand_rows_are_read(tmp_path: Path) -> None:
    rows = [{"q": f"How wide is {n}?", "a": f"It is {n} wide."} for n in range(SAMPLE_ROWS + 9)]
    assert propose(tmp_path, rows).outcome.n_rows == SAMPLE_ROWS


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz", ".json", ".parquet"])
def test_every_kind_of_file_is_read_as_the_data_gate_reads_it(tmp_path: Path, ending: str) -> None:
    rows, path = table(q=QUESTIONS, a=ANSWERS), tmp_path / f"rows{ending}"
    if ending == ".parquet":
        import polars

        polars.DataFrame(rows).write_parquet(path)
    elif ending == ".json":
        path.write_bytes(orjson.dumps(rows))
    else:
        opened = gzip.open if ending.endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if ending == ".tsv" else ",")
            writer.writerows([["q", "a"], *([row["q"], row["a"]] for row in rows)])
    for name in (str(path), str(tmp_path), str(tmp_path / "*")):
        found = propose_columns(DataSource(source=name))
        assert (found.columns, found.outcome.n_kept_rows) == (PAIR, N_ROWS)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "has no row"),
        ("a.csv", b"q,a\n", "has no row"),
        ("a.jsonl", b"\n\n", "has no row"),
        ("a.jsonl", random.Random(1).randbytes(4000), "binary, not text"),
        ("a.jsonl", b'["q"]\n"a"\n', "no row of"),
        ("a.csv", b"\xe9\xe8\xff\xd8,b\nx,y\n", "no readable column names"),
        ("a.parquet", b"PAR1" * 40, "not a readable Parquet file"),
        ("a.csv.gz", random.Random(1).randbytes(400), "cannot be unpacked"),
        ("a.pdf", b"%PDF", "not a kind of data file"),
    ],
)
def test_file_without_rows_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataSourceError, match=words) as caught:
        propose_columns(DataSource(source=str(tmp_path / name)))
    assert caught.value.fix


def test_column_names_are_shown_on_one_short_line() -> None:
    assert shown("a\nb\x00") == "a\ufffdb\ufffd"
    assert shown("x" * 1000) == "x" * LONGEST_SHOWN + "…"
    assert shown_list(["a, b", "c", ""]) == '"a, b", c, ""'
    assert shown_list(["n"] * 1022).endswith("n and 1,002 more")
