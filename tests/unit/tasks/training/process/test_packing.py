"""Rows packed behind one copy of their prefix: the same losses and gradients as one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.training.process._isolation import RowsMix
from tasks.training.process._packing import (
    SharedPrefixCollator,
    count_row_tokens,
    pack_rows,
    pack_with_trl,
    probe_rows,
    share_prefix,
)
from tasks.training.process._row_attention import NAME
from tests.support.prefixes import PREFIX, make_rows
from tests.support.toy import load_toy


def test_packing_keeps_every_token_and_the_limit() -> None:
    rows = make_rows()
    packed = pack_rows(rows, 40, PREFIX)
    assert max(len(ids) for ids in packed["input_ids"]) <= 36
    assert [len(ids) for ids in packed["input_ids"]] == [sum(n) for n in packed["seq_lengths"]]
    rests = sorted(ids[4:] for ids in rows["input_ids"])
    cut = []
    for sequence in packed:
        ids = list(sequence["input_ids"])
        for length in sequence["seq_lengths"]:
            cut.append(ids[:length])
            ids = ids[length:]
    assert sorted(cut) == rests


def test_row_tokens_count_the_prefix_for_each_row() -> None:
    assert count_row_tokens([4, 3, 5]) == 7 + 9


def test_collator_numbers_positions_on_from_the_prefix() -> None:
    sequences = [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "seq_lengths": [2, 1]},
        {"input_ids": [4, 5], "labels": [4, 5], "seq_lengths": [2]},
    ]
    batch = SharedPrefixCollator((8, 9))(sequences)
    assert batch["input_ids"].tolist() == [[8, 9, 1, 2, 3, 4, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 2, 3]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 2, -100, -100, 5]]
    assert batch["row_lengths"] == [2, 2, 1, 2]
    assert batch["attention_mask"].tolist() == [[1] * 7]


def test_sharing_packs_all_sets_and_switches_the_attention(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy")
    (train, validation), collator = share_prefix(model, [make_rows(), make_rows(4, seed=1)], 60)
    assert collator.prefix == tuple(PREFIX)
    assert sum(len(n) for n in train["seq_lengths"]) == 9
    assert sum(len(n) for n in validation["seq_lengths"]) == 4
    assert model.config._attn_implementation == NAME
    model.save_pretrained(tmp_path / "saved")
    assert NAME not in (tmp_path / "saved" / "config.json").read_text()


def test_a_model_that_drops_the_row_lengths_is_left_alone(tmp_path: Path) -> None:
    model = load_toy(tmp_path / "toy")
    forward = model.model.forward

    def deaf(*args: Any, row_lengths: Any = None, **options: Any) -> Any:
        return forward(*args, **options)

    model.model.forward = deaf
    with pytest.raises(RowsMix, match="differ from those of the row alone"):
        share_prefix(model, [make_rows()], 60)
    assert model.config._attn_implementation == "sdpa"


def test_a_probe_has_three_rows_and_their_beginnings() -> None:
    rows = make_rows(4)
    assert probe_rows(rows, 4) == [row[:36] for row in rows["input_ids"][:3]]
    [row] = make_rows(1)["input_ids"]
    assert probe_rows(make_rows(1), 4) == [row, row, row]


def test_trls_batch_of_packed_rows_numbers_each_row_by_itself() -> None:
    batch = pack_with_trl([[5, 6], [7, 8, 9], [10]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2, 0]]
