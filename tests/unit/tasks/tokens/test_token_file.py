from __future__ import annotations

from pathlib import Path

from tasks.tokens.token_file import count_rows, read_token_rows


def test_read_token_rows_finds_rows_and_their_tokens(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"row": [4, 9], "input_ids": [[1, 2, 3], [5]], "labels": [[-100, 2, 3], [-100]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "tokens.parquet")
    [rows] = read_token_rows(tmp_path / "tokens.parquet")
    assert count_rows(tmp_path / "tokens.parquet") == 2
    assert rows.numbers.tolist() == [4, 9]
    assert rows.starts.tolist() == [0, 3, 4]
    assert [rows.row_of(place) for place in range(4)] == [0, 0, 0, 1]
    assert [part.tolist() for part in rows.row(0)] == [[1, 2, 3], [-100, 2, 3]]
    assert [part.tolist() for part in rows.row(1)] == [[5], [-100]]
