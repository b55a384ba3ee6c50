"""Pack sequences whose rows share one copy of their common prompt prefix.

Every row of a set begins with the tokens its chat template puts first, and often with a long system
prompt. The prefix is removed from the rows, the rests are packed by TRL, and one copy of it goes
before all rows of a batch; `_row_attention` keeps the rows apart. This makes two counts of tokens:
row tokens (of the rows, the prefix counted for each of them) and computed tokens (what goes
through the model, the prefix counted once per batch). There is no padding in either.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.tokens.token_file import NOT_TRAINED
from tasks.training.plan.choices import Precision
from tasks.training.plan.shared_prefix import (
    N_PROBE_ROWS,
    PROBE_TOKENS,
    SHARED_SHARE,
    shared_prefix,
)
from tasks.training.process._isolation import RowsMix, check_isolation
from tasks.training.process._row_attention import attend_by_rows, suits_rows

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset
    from transformers import PreTrainedModel


def pack_rows(rows: Dataset, limit_tokens: int, prefix: Sequence[int]) -> Dataset:
    """Remove the prefix from every row and pack the rests.

    Args:
        rows: `input_ids` and `labels`; each row begins with the prefix.
        limit_tokens: Length of a packed sequence with the prefix, at least the longest row's.
        prefix: What `shared_prefix` found.

    Returns:
        Sequences of rests: `input_ids`, `labels`, and `seq_lengths`, the tokens of each rest.
    """
    from trl import pack_dataset

    def rest(table: pyarrow.Table) -> pyarrow.Table:
        import pyarrow as arrow
        import pyarrow.compute as compute

        names = ["input_ids", "labels"]
        columns = [compute.list_slice(table[name], len(prefix)) for name in names]
        return arrow.table(columns, names=names)

    kept = rows.select_columns(["input_ids", "labels"]).with_format("arrow")
    rests = kept.map(rest, batched=True).with_format(None)
    return pack_dataset(rests, limit_tokens - len(prefix), strategy="bfd")


def count_row_tokens(row_lengths: Sequence[int]) -> int:
    """Count the tokens of rows before packing from the lengths of the prefix and of each rest."""
    n_prefix, *rests = row_lengths
    return n_prefix * len(rests) + sum(rests)


@dataclass(frozen=True)
class SharedPrefixCollator:
    """Concatenates packed sequences after one copy of the prefix."""

    prefix: tuple[int, ...]

    def __call__(self, sequences: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of sequences from `pack_rows`.

        Shape:
            input_ids, labels, position_ids and attention_mask (1, seq) with seq the computed
            tokens; row_lengths a list: tokens of the prefix, then of each rest.
        """
        import torch

        n_prefix = len(self.prefix)
        ids, labels, lengths = list(self.prefix), [NOT_TRAINED] * n_prefix, [n_prefix]
        for sequence in sequences:
            ids.extend(sequence["input_ids"])
            labels.extend(sequence["labels"])
            lengths.extend(sequence["seq_lengths"])
        for start in itertools.accumulate(lengths[:-1]):
            labels[start] = NOT_TRAINED  # it would be predicted from the end of another row
        positions = [
            *range(n_prefix),
            *(n_prefix + place for length in lengths[1:] for place in range(length)),
        ]
        return {
            "input_ids": torch.tensor([ids]),
            "labels": torch.tensor([labels]),
            "position_ids": torch.tensor([positions]),
            "attention_mask": torch.ones(1, len(ids), dtype=torch.long),  # TRL counts tokens by it
            "row_lengths": lengths,
        }


def share_prefix(
    model: PreTrainedModel,
    sets: Sequence[Dataset],
    limit_tokens: int,
    precision: Precision = Precision.FP32,
) -> tuple[list[Dataset], SharedPrefixCollator]:
    """Pack sets for a model that can keep their rows apart, and make it attend by rows.

    Args:
        model: On the training's device, not wrapped yet.
        sets: Training rows and, where there are any, validation rows.
        limit_tokens: Length of a packed sequence, at least the longest row's.
        precision: Number format of the training.

    Returns:
        The packed sets and their collator.

    Raises:
        RowsMix: The model does not keep the rows apart; it attends as before.
    """
    longest = max(len(ids) for rows in sets for ids in rows["input_ids"])
    if not suits_rows(model, longest):
        raise RowsMix("its layers combine tokens otherwise than by attention over complete rows")
    prefix = shared_prefix(*sets)[: limit_tokens // SHARED_SHARE]
    packed = [pack_rows(rows, limit_tokens, prefix) for rows in sets]
    collator = SharedPrefixCollator(prefix)

    def collate(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        rests = [list(row[len(prefix) :]) for row in rows]
        return collator(
            [{"input_ids": rest, "labels": rest, "seq_lengths": [len(rest)]} for rest in rests]
        )

    before = model.config._attn_implementation
    attend_by_rows(model)
    try:
        rows = probe_rows(sets[0], len(prefix))
        check_isolation(model, collate, rows, precision, len(prefix))
    except RowsMix:
        model.set_attn_implementation(before)
        raise
    return packed, collator


def probe_rows(rows: Dataset, n_shared: int = 0) -> list[list[int]]:
    """Return the beginnings of the first rows; a single row is taken again."""
    found = [row[: n_shared + PROBE_TOKENS] for row in rows[:N_PROBE_ROWS]["input_ids"]]
    return list(itertools.islice(itertools.cycle(found), N_PROBE_ROWS))


def pack_with_trl(rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Make a batch of two packed sequences, with TRL's collator for packed rows."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    sequences = []
    for packed in (rows[:-1], rows[-1:]):
        ids = list(itertools.chain.from_iterable(packed))
        sequences.append({"input_ids": ids, "labels": ids, "seq_lengths": list(map(len, packed))})
    return DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(sequences)
