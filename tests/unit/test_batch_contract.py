from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import TrainingContractBroken
from tasks._batch_contract import check_padding

PAD = 2
STOP = 9
ROWS = [
    {"input_ids": [5, 6, 7, STOP, STOP], "labels": [-100, -100, -100, STOP, STOP]},
    {"input_ids": [5, STOP], "labels": [-100, STOP]},
    {"input_ids": [5, 6, STOP], "labels": [-100, 6, STOP]},
]


def collator(pad: int, *, is_flat: bool = False) -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=is_flat)


@pytest.mark.parametrize("pad", [PAD, STOP])
@pytest.mark.parametrize("is_flat", [False, True])
def test_check_padding_accepts_the_collator_of_trl(pad: int, is_flat: bool) -> None:
    collate = collator(pad, is_flat=is_flat)
    assert collate(ROWS)["input_ids"].shape == ((1, 10) if is_flat else (3, 5))
    check_padding(collate, ROWS)


def test_check_padding_accepts_packed_rows_whose_first_tokens_have_labels() -> None:
    packed = {"input_ids": [5, 6, 5, 7], "labels": [5, 6, 5, 7], "seq_lengths": [2, 2]}
    for collate in (collator(PAD, is_flat=True), collator(PAD)):
        check_padding(collate, [packed])
    # The flat collator takes the label of each packed row's first token; the other one does not.
    taken = [collator(PAD, is_flat=flat)([packed])["labels"].tolist() for flat in (True, False)]
    assert taken == [[[-100, 6, -100, 7]], [[5, 6, 5, 7]]]


def test_check_padding_refuses_trained_padding() -> None:
    class Pads:
        """Pads labels with the stop token, as collators do that copy the padded ids."""

        def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = collator(STOP)(rows)
            batch["labels"][batch["attention_mask"] == 0] = STOP
            return batch

    with pytest.raises(TrainingContractBroken) as caught:
        check_padding(Pads(), ROWS)
    assert caught.value.where == "Pads"
    assert caught.value.expected == "3 trained tokens"
    assert caught.value.got == "6, or other ones"


def test_check_padding_refuses_labels_that_moved() -> None:
    def moved(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = collator(PAD)(rows)
        return batch | {"labels": batch["labels"].roll(1)}

    with pytest.raises(TrainingContractBroken):
        check_padding(moved, ROWS)
