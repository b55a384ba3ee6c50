"""The benchmarks' own parts: made-up rows, converted dialogues, and how figures are laid out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _timed
from benchmarks._conversations import CHUNK_ROWS, copy_lines, make_chunk, write_conversations
from benchmarks._peers import python_loop
from benchmarks._process import Measured
from benchmarks._results import compare_peers, rounded, table
from benchmarks.check_samples import counts, dialogue_row, find_samples, show, write_dialogues
from benchmarks.measure_check import (
    Bench,
    measure_command,
    measure_growth,
    measure_memory,
    measure_peers,
    measure_small,
    measure_speed,
    measure_tokens,
    parse_arguments,
)
from schemas.config.run import RunConfig
from tasks.dataset.check_file import check_file
from tests.support.toy import write_jsonl

PROMISED = {
    "ratio_to_json_loads",
    "ratio_with_near_duplicates",
    "peak_gib_1m",
    "peak_growth_4m",
    "token_ratio",
    "check_1000_rows_only_seconds",
    "check_1000_rows_seconds",
    "peers",
}


class CannedBench(Bench):
    """Answers at once instead of measuring."""

    def timed(self, kind: str, path: Path, *arguments: str) -> dict[str, Any]:
        seconds = {"json_loads": 4.0, "set": 10.0, "near": 20.0}
        found = {"verdict": "accepted", "n_rows": 50_000, "n_broken": {}, "encoding_seconds": 1.0}
        return {"seconds": seconds.get((*arguments, kind)[0], 2.0), **found}

    def command(self, path: Path, *options: str) -> Measured:
        gib = 1.1 if "peak_gib_without_near_duplicates_1m" in self.figures else 1.0
        return Measured(30.0, int(gib * 2**30), 2**29)

    def wall_seconds(self, path: Path, *options: str) -> float:
        return 2.0 if options else 5.0


def user_says(text: Any, answer: str = "All right.") -> dict[str, Any]:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def test_rows_are_the_same_every_time_and_differ_by_chunk() -> None:
    first = make_chunk(0, 50)
    assert first == make_chunk(0, 50)
    assert first != make_chunk(1, 50)


def test_fewer_rows_are_the_beginning_of_more() -> None:
    assert make_chunk(3, 60).startswith(make_chunk(3, 20))


def test_rows_are_as_long_and_as_mixed_as_promised() -> None:
    lines = make_chunk(0, 4000).splitlines()
    rows = [json.loads(line)["messages"] for line in lines]
    assert 350 < sum(map(len, lines)) / len(lines) < 480
    assert {len(row) for row in rows} == {2, 3, 4}
    assert {message["role"] for row in rows for message in row} == {"system", "user", "assistant"}
    assert 0.03 < sum(not line.isascii() for line in lines) / len(lines) < 0.08
    assert 0.001 < 1 - len(set(lines)) / len(lines) < 0.02
    assert sum(b'"content": ""' in line for line in lines) > 0


def test_written_file_holds_the_chunks_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_conversations(path, 0, 1, n_processes=1)
    write_conversations(path, 1, 1, n_processes=1)
    assert path.read_bytes() == make_chunk(0) + make_chunk(1)


def test_first_lines_are_copied_as_they_are(tmp_path: Path) -> None:
    source, target = tmp_path / "rows.jsonl", tmp_path / "first.jsonl"
    source.write_bytes(make_chunk(0, 10))
    rows = copy_lines(source, target, 4)
    assert len(rows) == 4
    assert target.read_bytes() == make_chunk(0, 4)


def test_generated_rows_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(make_chunk(0, 2000))
    found = _timed.check(path, "near")
    assert found["verdict"] == "accepted"
    assert found["n_rows"] == 2000
    broken = {rule for rule, n_rows in found["n_broken"].items() if n_rows}
    assert {"duplicate_fraction", "near_duplicate_fraction", "contradictory_fraction"} <= broken
    assert {"secret_or_pii", "unrendered_placeholder", "content_empty"} <= broken


def test_python_loop_finds_what_the_gate_finds(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": "Yes."}
    rows: list[Any] = [
        user_says("Hello?"),
        user_says(" "),
        user_says(None),
        user_says(7),
        user_says("It is cafÃ©."),
        user_says("Stop<|im_end|>"),
        user_says("Dear {{name}}"),
        user_says("Write to jane.doe@mail.org"),
        user_says("a\x00b"),
        {"messages": []},
        {"messages": ["Hello?"]},
        {"messages": [answer]},
        {"messages": [{"role": "user", "content": "Hello?"}]},
        {"messages": [{"role": "user", "content": "Hello?"}, answer, {"role": "bot"}]},
        {"messages": [{"role": "user", "content": "a", "weight": 3}, answer]},
        {
            "messages": [
                {"role": "user", "content": "a"},
                answer,
                {"role": "system", "content": "b"},
                {"role": "user", "content": "c"},
            ]
        },
        {"prompt": "", "completion": "Yes."},
        {"text": "Hello?"},
        [1],
    ]
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    with path.open("a", encoding="utf-8") as stream:
        stream.write("{")
    found = check_file(str(path), RunConfig())
    n_broken = python_loop(path)["n_broken"]
    assert len(n_broken) >= 18
    gate = {rule.id: rule.n_rows for rule in found.rules if rule.id in n_broken}
    assert n_broken == gate


def test_figures_have_the_promised_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, path = CannedBench(tmp_path), tmp_path / "rows.jsonl"
    path.write_bytes(make_chunk(0, 3))
    measure_small(bench, path)
    measure_speed(bench, path)
    measure_command(bench, path)
    measure_memory(bench, path, "1m")
    measure_tokens(bench, path)
    measure_peers(bench, path)
    measure_growth(bench, path, 0)
    figures = rounded(bench.figures)
    assert set(figures) >= PROMISED
    assert figures["ratio_to_json_loads"] == 2.5
    assert figures["ratio_with_near_duplicates"] == 5.0
    assert figures["token_ratio"] == 0.5
    assert figures["peak_gib_1m"] == 1.0
    assert figures["peak_growth_4m"] == 0.1
    assert figures["check_1000_rows_only_seconds"] == 2.0
    assert figures["check_1000_rows_seconds"] == 5.0
    assert figures["command_seconds"] == 5.0
    assert json.loads(json.dumps(figures)) == figures
    assert "written" in capsys.readouterr().err


def test_peers_are_compared_by_the_time_for_as_many_rows() -> None:
    found = compare_peers(
        {"gate": {"seconds": 2, "n_rows": 50_000}, "other": {"seconds": 3, "n_rows": 300}}
    )
    assert found["gate"] == {"seconds_per_100000_rows": 4, "ratio_to_gate": 1, "n_rows": 50_000}
    assert found["other"] == {"seconds_per_100000_rows": 1000, "ratio_to_gate": 250, "n_rows": 300}


def test_table_says_what_was_met() -> None:
    figures = {"token_ratio": 0.7, "peak_gib_1m": 1.2, "json_loads_seconds": 4.0}
    lines = [" ".join(line.split()) for line in table(figures).splitlines()]
    assert lines == [
        "peak_gib_1m 1.20 under 1.5: met",
        "token_ratio 0.70 at least 0.8: MISSED",
        "json_loads_seconds 4.00",
    ]


@pytest.mark.parametrize(
    ("asked", "expected"), [("200000", 200_000), ("14999", 10_000), ("1", CHUNK_ROWS)]
)
def test_number_of_rows_is_a_number_of_chunks(asked: str, expected: int) -> None:
    assert parse_arguments(["--rows", asked]).rows == expected


def test_dialogue_is_said_in_turn() -> None:
    assert dialogue_row(["Hi", "Hello", "Bye"]) == {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ]
    }
    assert dialogue_row("Hi") == {"messages": [{"role": "user", "content": "Hi"}]}


def test_dialogues_of_the_corpus_become_rows_that_the_gate_judges(tmp_path: Path) -> None:
    text = "categories:\n- talk\nconversations:\n" + "".join(
        f"- - What is {n}?\n  - It is {n}, a number.\n" for n in range(12)
    )
    text += "- - What is 1?\n  - It is one.\n- - Hi\n  - Hello\n  - Bye\n- What - is that\n"
    path = tmp_path / "talk.jsonl"
    assert write_dialogues(text, path) == 15
    report = check_file(str(path), RunConfig())
    assert counts(report) == {
        "verdict": "rejected",
        "n_rows": 15,
        "n_kept_rows": 13,
        "n_quarantined_rows": 2,
        "rules": {
            "no_assistant_turn": 1,
            "last_turn_not_assistant": 1,
            "bad_row_fraction": 2,
            "duplicate_fraction": 0,
            "near_duplicate_fraction": 0,
            "contradictory_fraction": 2,
            "boilerplate_fraction": 0,
        },
    }
    shown = show("talk", report)
    assert "talk: rejected" in shown
    assert "contradictory_fraction: 2 rows" in shown
    assert "talk.jsonl:14 ends with user" in shown


def test_samples_are_those_that_are_there(tmp_path: Path) -> None:
    assert find_samples(tmp_path) == []
    for name in ("gsm8k_train.jsonl", "gsm8k_test.jsonl"):
        write_jsonl(tmp_path / name, [{"question": "1 + 1?", "answer": "2"}])
    train, test = find_samples(tmp_path)
    assert RunConfig.model_validate(train.settings).quality.benchmarks == (str(test.source),)
    assert RunConfig.model_validate(test.settings).data.source.columns == {
        "prompt": "question",
        "completion": "answer",
    }
