from __future__ import annotations

import inspect
import json
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.config.run import DataSource, SplitConfig
from schemas.errors import DataRejected
from schemas.records.references import CheckedReference, DatasetReference
from tasks.check_schema import check_rows
from tasks.dataset.pinned_rows import PinnedRules
from tasks.dataset.split_rows import Split
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.jsonl import read_lines
from tasks.engine.keys import StageKey, file_sha256, stage_key
from tasks.load_dataset import write_rows
from tasks.rows.feature_table import FeatureTable
from tasks.rows.tally import RowTally
from tasks.sources import stored_rows
from tasks.split_dataset import SplitCounts, split_dataset, split_rows

COLOURS = ["red", "green", "blue", "grey", "black", "white", "brown", "yellow"]
WORDS = [*COLOURS, "wall", "roof", "door", "beam", "pipe", "tile", "near", "under"]


def sentence(number: int, n_words: int = 14) -> str:
    """Make a sentence that no other number's is nearly like."""
    generator = random.Random(number)
    return " ".join([*generator.choices(WORDS, k=n_words), str(number)])


def line(number: int, prompt: str, answer: str = "") -> dict[str, Any]:
    return {
        "file": "a.jsonl",
        "line": number,
        "format": "prompt_completion",
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer or sentence(number + 10**6)},
        ],
        "n_prompt_messages": 1,
        "tools": None,
        "columns": {},
    }


def lines(n_rows: int, start: int = 1) -> list[dict[str, Any]]:
    return [line(number, sentence(number)) for number in range(start, start + n_rows)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def split(
    folder: Path, rows: list[dict[str, Any]], config: SplitConfig, seed: int = 1
) -> SplitCounts:
    return split_rows(write(folder / "kept.jsonl", rows), config, seed, 0.8, folder)


def numbers(folder: Path, part: Split) -> list[int]:
    return [row["line"] for row in read_lines(folder / part.file)]


def splits_of(folder: Path) -> dict[int, Split]:
    found = [(number, part) for part in Split for number in numbers(folder, part)]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_groups_stay_together_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = []
    for number in range(40):
        words = sentence(number)
        near = sentence(number, 40)
        rows += [
            line(4 * number, words),
            line(4 * number + 1, f"  {words.upper()} "),
            line(4 * number + 2, near, sentence(number + 5000, 40)),
            line(4 * number + 3, f"{near} too", sentence(number + 5000, 40)),
        ]
    random.Random(3).shuffle(rows)
    counts = split(tmp_path, rows, SplitConfig(eval_fraction=0.3, max_eval_rows=6))
    found = splits_of(tmp_path)
    assert sorted(found) == list(range(160))
    assert counts.n_groups == 80
    assert counts.n_eval_rows == len(numbers(tmp_path, Split.EVAL)) == 6
    assert counts.n_unused_rows == len(numbers(tmp_path, Split.UNUSED)) > 0
    assert counts.n_train_rows + counts.n_unused_rows + 6 == 160
    for first in range(0, 160, 2):
        assert (found[first] is Split.TRAIN) is (found[first + 1] is Split.TRAIN)
    written = json.loads((tmp_path / "split.json").read_text())
    assert written == vars(counts)
    groups = FeatureTable.load(tmp_path / "row_features").column("group")
    places = {row["line"]: place for place, row in enumerate(rows)}
    for first in range(0, 160, 2):
        assert groups[places[first]] == groups[places[first + 1]]
    assert len(set(groups.tolist())) == 80


def test_rows_for_each_answer_of_a_conversation_stay_together(tmp_path: Path) -> None:
    """Each row begins with all messages of the one before it, which is less than half of its text."""
    rows = []
    for number in range(30):
        turns = [
            {"role": role, "content": " ".join([sentence(100 * number + turn)] * (turn + 1))}
            for turn in range(4)
            for role in ("user", "assistant")
        ]
        rows += [{**line(4 * number + n, "a"), "messages": turns[: 2 * n + 2]} for n in range(4)]
    random.Random(5).shuffle(rows)
    counts = split(tmp_path, rows, SplitConfig(eval_fraction=0.3))
    assert counts.n_groups == 30
    found = splits_of(tmp_path)
    for first in range(0, 120, 4):
        assert len({found[first + n] for n in range(4)}) == 1
    assert len(set(found.values())) == 2


def test_files_keep_the_order_of_the_rows(tmp_path: Path) -> None:
    split(tmp_path, lines(60), SplitConfig(eval_fraction=0.3))
    for part in (Split.TRAIN, Split.EVAL):
        assert numbers(tmp_path, part) == sorted(numbers(tmp_path, part))
        assert numbers(tmp_path, part)
    kept = (tmp_path / "kept.jsonl").read_text().splitlines()
    assert set((tmp_path / "train.jsonl").read_text().splitlines()) < set(kept)


def test_features_of_every_row_and_its_side_are_left_for_the_set_rules(tmp_path: Path) -> None:
    split(tmp_path, lines(40), SplitConfig(eval_fraction=0.3))
    table = FeatureTable.load(tmp_path / "row_features")
    assert table.n_rows == 40
    found = splits_of(tmp_path)
    assert table.column("line").tolist() == list(range(1, 41))
    assert table.column("part").tolist() == [int(found[number]) for number in range(1, 41)]
    assert len(table.column("cluster")) == len(table.column("whole")) == 40
    assert table.place(3) == ("a.jsonl", 4)


def test_rows_keep_their_side_when_others_are_added(tmp_path: Path) -> None:
    old, new = lines(300), lines(200, start=301)
    # Some of the new rows ask what an old one asks, or nearly repeat one.
    for number in range(0, 40, 2):
        old_prompt = old[number * 5]["messages"][0]["content"]
        new[number] = line(301 + number, old_prompt.upper())
        answer = old[number * 5 + 1]["messages"][1]["content"]
        prompt = old[number * 5 + 1]["messages"][0]["content"]
        new[number + 1] = line(302 + number, f"{prompt} too", answer)
    config = SplitConfig(eval_fraction=0.2, max_eval_rows=1000)
    split(tmp_path / "few", old, config)
    split(tmp_path / "many", old + new, config)
    few, many = splits_of(tmp_path / "few"), splits_of(tmp_path / "many")
    assert set(few.values()) == {Split.TRAIN, Split.EVAL}
    assert {number: many[number] for number in few} == few
    assert [many[301 + number] for number in range(0, 40, 2)] == [
        few[number * 5 + 1] for number in range(0, 40, 2)
    ]


def test_added_rows_push_others_out_of_the_evaluation_only_into_the_unused(tmp_path: Path) -> None:
    config = SplitConfig(eval_fraction=0.3, max_eval_rows=30)
    split(tmp_path / "few", lines(300), config)
    split(tmp_path / "many", lines(500), config)
    few, many = splits_of(tmp_path / "few"), splits_of(tmp_path / "many")
    moved = {(few[number], many[number]) for number in few if few[number] is not many[number]}
    assert moved == {(Split.EVAL, Split.UNUSED)}


def test_same_rows_give_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split(tmp_path / name, lines(60), SplitConfig(eval_fraction=0.3), seed)
    first, second, third = (file_sha256(tmp_path / name / "eval.jsonl") for name in ("a", "b", "c"))
    assert first == second != third


def test_validation_rows_are_taken_from_the_training_and_no_other_row_moves(
    tmp_path: Path,
) -> None:
    split(tmp_path / "without", lines(300), SplitConfig(eval_fraction=0.2))
    config = SplitConfig(eval_fraction=0.2, validation_fraction=0.1)
    counts = split(tmp_path / "with", lines(300), config)
    before, after = splits_of(tmp_path / "without"), splits_of(tmp_path / "with")
    moved = {(before[n], after[n]) for n in before if before[n] is not after[n]}
    assert moved == {(Split.TRAIN, Split.VALIDATION)}
    assert counts.n_validation_rows == len(numbers(tmp_path / "with", Split.VALIDATION)) > 0
    assert numbers(tmp_path / "without", Split.VALIDATION) == []
    table = FeatureTable.load(tmp_path / "with" / "row_features")
    assert (table.column("part") == Split.VALIDATION).sum() == counts.n_validation_rows


def test_validation_rows_stay_the_same_beside_a_pinned_evaluation_set(tmp_path: Path) -> None:
    config = SplitConfig(eval_fraction=0.2, validation_fraction=0.2)
    split(tmp_path / "first", lines(100), config)
    earlier = DataSource(source=str(tmp_path / "first" / "eval.jsonl"))
    split(tmp_path / "second", lines(150), config.model_copy(update={"pinned": earlier}))
    first, second = (numbers(tmp_path / name, Split.VALIDATION) for name in ("first", "second"))
    assert first == [number for number in second if number <= 100]
    assert len(second) > len(first) > 0


@pytest.mark.parametrize("block_rows", [7, 30, 20_000])
def test_rows_appended_to_one_file_move_no_group_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(stored_rows, "BLOCK_ROWS", block_rows)
    count = 40
    data = tmp_path / "data"

    def pair(number: int, end: str) -> dict[str, Any]:
        return {"prompt": f"{sentence(number, 30)} {end}", "completion": sentence(number + 1000)}

    def places(n_more: int) -> dict[tuple[str, int], str]:
        """Load, check and split both files; each row of b nearly repeats one of a."""
        first = [pair(number, "one") for number in range(count)]
        first += [pair(number, "more") for number in range(100, 100 + n_more)]
        write(data / "a.jsonl", first)
        write(data / "b.jsonl", [pair(number, "two") for number in reversed(range(count))])
        folder = tmp_path / str(n_more)
        folder.mkdir()
        loaded = OutputFolder(StageKey("load_dataset", {"key": str(n_more)}))
        n_rows = write_rows(DataSource(source=str(data)), loaded.path / "rows.jsonl")[""]
        dataset = loaded.commit(DatasetReference, source="data", n_rows=n_rows)
        check_rows(dataset, RowTally({}), (), folder)
        kept = [(row["file"], row["line"]) for row in read_lines(folder / "kept.jsonl")]
        expected = [("a.jsonl", line) for line in range(1, count + n_more + 1)]
        assert kept == expected + [("b.jsonl", line) for line in range(1, count + 1)]
        split_rows(folder / "kept.jsonl", SplitConfig(eval_fraction=0.4), 1, 0.8, folder)
        return {
            (row["file"], row["line"]): str(part)
            for part in Split
            for row in read_lines(folder / part.file)
        }

    before, after = places(0), places(3)
    assert {place: after[place] for place in before} == before
    assert len(set(before.values())) == 2


def pin(path: Path, rows: list[dict[str, Any]], **columns: str) -> SplitConfig:
    source = DataSource.model_validate({"source": str(write(path, rows)), "columns": columns})
    return SplitConfig(pinned=source)


def test_pinned_rows_are_the_evaluation_rows_and_rows_like_them_are_not_used(
    tmp_path: Path,
) -> None:
    rows = lines(30)
    near = rows[4]["messages"][0]["content"] + " too"
    pinned: list[dict[str, Any]] = [
        {"q": sentence(900), "a": sentence(901)},
        {"q": rows[2]["messages"][0]["content"].upper(), "a": "Something else."},
        {"q": near, "a": rows[4]["messages"][1]["content"]},
    ]
    config = pin(tmp_path / "pinned.jsonl", pinned, prompt="q", completion="a")
    counts = split(tmp_path / "out", rows, config)
    assert vars(counts) == {
        "n_train_rows": 28,
        "n_eval_rows": 3,
        "n_unused_rows": 2,
        "n_validation_rows": 0,
        "n_groups": 31,
    }
    assert numbers(tmp_path / "out", Split.UNUSED) == [3, 5]
    judged = list(read_lines(tmp_path / "out" / "eval.jsonl"))
    assert [(row["file"], row["line"]) for row in judged] == [
        ("pinned.jsonl", n) for n in (1, 2, 3)
    ]
    assert [row["messages"][0]["content"] for row in judged] == [row["q"] for row in pinned]
    assert not (tmp_path / "out" / "pinned.jsonl").exists()


def test_evaluation_file_of_an_earlier_run_can_be_pinned_as_it_is(tmp_path: Path) -> None:
    split(tmp_path / "first", lines(60), SplitConfig(eval_fraction=0.3))
    earlier = tmp_path / "first" / "eval.jsonl"
    config = SplitConfig(pinned=DataSource(source=str(earlier)))
    counts = split(tmp_path / "second", lines(100), config, seed=9)
    assert (tmp_path / "second" / "eval.jsonl").read_bytes() == earlier.read_bytes()
    n_eval = len(numbers(tmp_path / "first", Split.EVAL))
    assert (counts.n_eval_rows, counts.n_unused_rows) == (n_eval, n_eval)
    # What was judged before is not trained now, and everything else is.
    assert numbers(tmp_path / "second", Split.UNUSED) == numbers(tmp_path / "first", Split.EVAL)
    assert counts.n_train_rows == 100 - n_eval


def test_pinned_row_that_breaks_a_rule_is_refused(tmp_path: Path) -> None:
    pinned = [*lines(3), {"prompt": "How tall?", "completion": " "}]
    with pytest.raises(DataRejected) as caught:
        split(tmp_path / "out", lines(30), pin(tmp_path / "pinned.jsonl", pinned))
    assert caught.value.where == "split.pinned"
    assert "completion_empty" in str(caught.value)
    assert "line 4: " in str(caught.value)


def test_stage_names_both_sides_by_their_content(tmp_path: Path) -> None:
    kept = OutputFolder(StageKey("check_schema", {"key": ""}))
    write(kept.path / "kept.jsonl", lines(60))
    checked = kept.commit(
        CheckedReference,
        n_rows=60,
        n_kept_rows=60,
        n_quarantined_rows=0,
        kept_sha256="",
        formats={},
        rules=(),
    )
    pinned = pin(tmp_path / "pinned.jsonl", lines(5, start=500))
    references = [
        inspect.unwrap(split_dataset.fn)(
            OutputFolder(StageKey("split_dataset", {"key": str(number)})), checked, config, 1, 0.8
        )
        for number, config in enumerate((SplitConfig(eval_fraction=0.3), pinned))
    ]
    keys = [
        stage_key(split_dataset.definition, {"split": pinned, "pinned_rules": rules}).digest
        for rules in (None, PinnedRules(special_tokens=("<end>",)))
    ]
    assert keys[0] != keys[1]
    for reference, is_pinned in zip(references, (False, True), strict=True):
        assert reference.is_pinned is is_pinned
        assert reference.train_sha256 == file_sha256(locate(reference, "train.jsonl"))
        assert reference.eval_sha256 == file_sha256(locate(reference, "eval.jsonl"))
        assert reference.n_validation_rows == 0
    assert (references[1].n_train_rows, references[1].n_eval_rows) == (60, 5)
