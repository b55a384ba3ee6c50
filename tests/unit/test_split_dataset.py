from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError
from schemas.run_config import SplitConfig
from tasks._lines import json_line, read_lines
from tasks._prompts import normalised_prompt
from tasks.split_dataset import Side, choose_sides, prompt_position, write_split


def line(number: int, prompt: str) -> dict[str, Any]:
    return {
        "file": "a.jsonl",
        "line": number,
        "format": "prompt_completion",
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": f"Answer {number}."},
        ],
        "n_prompt_messages": 1,
        "tools": None,
        "columns": {},
    }


def split(folder: Path, lines: list[dict[str, Any]], config: SplitConfig, seed: int = 1) -> Any:
    folder.mkdir()
    kept = folder / "kept.jsonl"
    kept.write_text("".join(json_line(value) for value in lines), encoding="utf-8")
    return write_split(kept, config, seed, folder)


def lines_of(folder: Path, side: Side) -> list[int]:
    return [value["line"] for value in read_lines(folder / f"{side}.jsonl")]


def test_position_is_the_hash_of_seed_and_prompt() -> None:
    digest = hashlib.sha256(b"7\nuser: a").hexdigest()
    assert prompt_position("user: a", 7) == pytest.approx(int(digest[:13], 16) / 16**13)
    assert prompt_position("user: a", 8) != prompt_position("user: a", 7)


def test_sides_are_chosen_by_position_and_surplus_is_not_used() -> None:
    positions = [0.05, 0.5, 0.01, 0.09, 0.1]
    config = SplitConfig(eval_fraction=0.1, max_eval_rows=2)
    assert choose_sides(positions, config) == ["eval", "train", "eval", "unused", "train"]


@pytest.mark.parametrize(
    ("fraction", "side", "fix"),
    [
        (0.1, "evaluation", "set split.eval_fraction to a value from 0.201 to 0.600"),
        (0.9, "training", "set split.eval_fraction to a value from 0.201 to 0.600"),
    ],
)
def test_empty_side_is_a_configuration_fault(fraction: float, side: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_sides([0.2, 0.6], SplitConfig(eval_fraction=fraction))
    assert caught.value.what == f"the split would leave no {side} row"
    assert caught.value.where == "split.eval_fraction"
    assert caught.value.fix == fix
    assert choose_sides([0.2, 0.6], SplitConfig(eval_fraction=0.201)) == ["eval", "train"]
    assert choose_sides([0.2, 0.6], SplitConfig(eval_fraction=0.6)) == ["eval", "train"]


def test_one_prompt_can_never_be_split() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_sides([0.2, 0.2], SplitConfig())
    assert caught.value.fix == "add rows with other prompts"


def test_no_prompt_stands_on_both_sides_and_no_row_is_lost(tmp_path: Path) -> None:
    lines = [line(n, f"  Question {n // 2}" if n % 2 else f"question  {n // 2}") for n in range(80)]
    counts = split(tmp_path / "a", lines, SplitConfig(eval_fraction=0.3, max_eval_rows=6))
    sides = {side: lines_of(tmp_path / "a", side) for side in Side}
    assert sorted(number for numbers in sides.values() for number in numbers) == list(range(80))
    assert counts.n_prompts == 40
    assert (counts.n_eval_rows, len(sides[Side.EVAL])) == (6, 6)
    assert counts.n_unused_rows == len(sides[Side.UNUSED]) > 0
    assert json.loads((tmp_path / "a" / "split.json").read_text())["n_unused_rows"] > 0
    prompts = {
        side: {normalised_prompt(lines[number]["messages"]) for number in numbers}
        for side, numbers in sides.items()
    }
    assert not prompts[Side.TRAIN] & prompts[Side.EVAL]


def test_rows_keep_their_side_when_others_are_added(tmp_path: Path) -> None:
    config = SplitConfig(eval_fraction=0.3, max_eval_rows=1000)
    split(tmp_path / "a", [line(n, f"Question {n}") for n in range(40)], config)
    split(tmp_path / "b", [line(n, f"Question {n}") for n in range(80)], config)
    few = lines_of(tmp_path / "a", Side.EVAL)
    assert few == [number for number in lines_of(tmp_path / "b", Side.EVAL) if number < 40]
    assert few


def test_same_rows_give_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    lines = [line(n, f"Question {n}") for n in range(40)]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split(tmp_path / name, lines, SplitConfig(eval_fraction=0.3), seed)
    first, second, third = (
        (tmp_path / name / "eval.jsonl").read_bytes() for name in ("a", "b", "c")
    )
    assert first == second != third
