from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks._batch_rows import name_rows, split_batch


def write_rows(path: Path, rows: list[list[int]]) -> Path:
    """Write tokens as the data gate does; rows are numbered 0, 10, 20 and so on."""
    import pyarrow
    from pyarrow import parquet

    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema([("row", pyarrow.int64()), ("input_ids", tokens), ("labels", tokens)])
    columns = [range(0, 10 * len(rows), 10), rows, rows]
    parquet.write_table(
        pyarrow.table(
            [pyarrow.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
        ),
        path,
    )
    return path


def padded() -> dict[str, Any]:
    import torch

    ids = torch.tensor([[1, 2, 3], [4, 5, 0]])
    return {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


def packed() -> dict[str, Any]:
    import torch

    ids = torch.tensor([[1, 2, 3, 4, 5]])
    return {"input_ids": ids, "position_ids": torch.tensor([[0, 1, 2, 0, 1]])}


def as_bytes(*ids: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in ids)


def test_split_batch_takes_padding_and_packing_apart() -> None:
    expected = [as_bytes(1, 2, 3), as_bytes(4, 5)]
    assert list(split_batch(padded())) == expected
    assert list(split_batch(packed())) == expected


def test_name_rows_reads_their_numbers(tmp_path: Path) -> None:
    stored = write_rows(tmp_path / "a.parquet", [[4, 5], [4], [1, 2, 3]])
    assert name_rows([packed()], stored) == "training rows 0, 20"
    assert name_rows([padded()], stored) == "training rows 0, 20"


def test_name_rows_names_a_few_of_many(tmp_path: Path) -> None:
    stored = write_rows(tmp_path / "a.parquet", [[4, 5]] * 7)
    assert name_rows([padded()], stored) == "training rows 0, 10, 20, 30, 40 and 2 more"


def test_name_rows_is_silent_where_it_finds_none(tmp_path: Path) -> None:
    assert name_rows([padded()], None) == ""
    assert name_rows([padded()], write_rows(tmp_path / "a.parquet", [[9]])) == ""
