from __future__ import annotations

import json
from pathlib import Path

from benchmarks.make_history import EVAL_ROWS, NAME, PLAN, make_config, write_rows


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_are_distinct_and_the_same_each_time(tmp_path: Path) -> None:
    first, again = (read(write_rows(tmp_path / name, range(80))) for name in ("a.jsonl", "b.jsonl"))
    assert first == again
    assert len({row["prompt"] for row in first}) == 80
    assert all(row["completion"] for row in first)
    assert max(n_rows for _, n_rows, _, _ in PLAN) <= EVAL_ROWS[0]  # none is evaluated on


def test_bad_rows_have_empty_answers_or_shuffled_letters(tmp_path: Path) -> None:
    good = read(write_rows(tmp_path / "good.jsonl", range(80)))
    half = read(write_rows(tmp_path / "half.jsonl", range(80), 0.5))
    assert 20 < sum(not row["completion"] for row in half) < 60
    mixed = read(write_rows(tmp_path / "mixed.jsonl", range(80), 1.0))
    assert [sorted(row["completion"]) for row in mixed] == [
        sorted(row["completion"]) for row in good
    ]
    assert all(one != other for one, other in zip(mixed, good, strict=True))


def test_configuration_pins_the_evaluation_rows(tmp_path: Path) -> None:
    config = make_config(tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "eval.jsonl", 5)
    assert config.split.pinned is not None
    assert config.split.pinned.source == str(tmp_path / "eval.jsonl")
    assert (config.registry.name, config.training.max_steps) == (NAME, 5)
