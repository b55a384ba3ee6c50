from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from schemas.config.run import DataSource
from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources.source import read_rows, source_fingerprint
from tests.support.parts import FLOW

ROWS = [{"prompt": f"How tall is {number}?", "completion": "Two."} for number in range(5)]
INFO = {"features": {"prompt": {"dtype": "string", "_type": "Value"}}, "splits": {}}


def save(folder: Path, rows: list[dict[str, Any]], n_files: int = 1) -> Path:
    """Write a folder as `Dataset.save_to_disk` does; the first file has a name that sorts last."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{n_files:05}.arrow" for number in reversed(range(n_files))]
    for number, name in enumerate(names):
        table = pyarrow.Table.from_pylist(rows[number::n_files])
        with pyarrow.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "test"}
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    (folder / "dataset_info.json").write_text(json.dumps(INFO, indent=2))
    return folder


def save_splits(folder: Path, **splits: list[dict[str, Any]]) -> Path:
    for name, rows in splits.items():
        save(folder / name, rows)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def read(folder: Path, split: str = "train") -> list[SourceRow]:
    return list(read_rows(DataSource(source=str(folder), split=split)))


def refused(folder: Path, split: str = "train") -> DataSourceError:
    with pytest.raises(DataSourceError) as caught:
        read(folder, split)
    assert (caught.value.exit_code, bool(caught.value.fix)) == (2, True)
    return caught.value


def test_saved_dataset_is_read_without_the_files_about_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = read(save(tmp_path / "saved", ROWS))
    assert rows[0] == SourceRow("data-00000-of-00001.arrow", 1, ROWS[0])
    assert [row.row for row in rows] == ROWS
    assert caplog.messages == []


def test_files_are_read_in_the_order_of_the_state(tmp_path: Path) -> None:
    rows = read(save(tmp_path / "saved", ROWS, n_files=2))
    assert [row.row for row in rows] == [*ROWS[0::2], *ROWS[1::2]]
    assert rows[0].file == "data-00001-of-00002.arrow"


@FLOW.mark
def test_folders_of_the_library_itself_are_read(tmp_path: Path) -> None:
    import datasets

    call = {"id": "a", "function": {"name": "f", "arguments": {"word": "x"}}}
    other = {"id": "b", "function": {"name": "g", "arguments": {"n": 1}}}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [one]}]}
        for one in (call, other)
    ]
    made = datasets.Dataset.from_list(rows)
    made.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict(train=made, dev=made.select([1])).save_to_disk(str(tmp_path / "two"))
    # The null of a text stays: it is an error of the row, or means that there are calls alone.
    expected = [
        {"messages": [{"content": None, **found} for found in row["messages"]]} for row in rows
    ]
    assert [row.row for row in read(tmp_path / "one")] == expected
    assert [row.row for row in read(tmp_path / "two")] == expected
    assert [row.row for row in read(tmp_path / "two", "dev")] == expected[1:]


def test_split_is_chosen_by_the_setting(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "saved", train=ROWS[:3], test=ROWS[3:])
    assert [row.row for row in read(folder)] == ROWS[:3]
    assert [row.row for row in read(folder, "test")] == ROWS[3:]
    fingerprints = {
        source_fingerprint({"source": DataSource(source=str(folder), split=split)})
        for split in ("train", "test")
    }
    assert len(fingerprints) == 2


def test_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    error = refused(save_splits(tmp_path / "saved", fit=ROWS, test=ROWS))
    assert "has no split train" in error.what
    assert error.expected == "one of its splits: fit, test"
    assert error.fix == "set data.source.split=fit"


def test_split_without_its_folder_is_named(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "saved", train=ROWS)
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert "split test of the saved dataset" in refused(folder, "test").what
    (folder / "test").mkdir()
    assert refused(folder, "test").got == "no state.json"


def test_saved_dataset_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", ROWS, n_files=2)
    (folder / "data-00001-of-00002.arrow").unlink()
    error = refused(folder)
    assert "is not complete" in error.what
    assert error.got == "no data-00001-of-00002.arrow"


@pytest.mark.parametrize("name", ["../outside.arrow", "/etc/hosts", 3])
def test_state_that_lists_other_places_is_refused(tmp_path: Path, name: Any) -> None:
    folder = save(tmp_path / "saved", ROWS)
    (tmp_path / "outside.arrow").write_bytes((folder / "data-00000-of-00001.arrow").read_bytes())
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    assert "is not complete" in refused(folder).what


def test_index_of_an_old_version_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", ROWS)
    state = json.loads((folder / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    assert "flatten_indices" in refused(folder).fix


def test_files_about_the_data_are_left_out_of_other_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("dataset_info.json", "dataset_infos.json", "state.json", "README.md"):
        (tmp_path / name).write_text('{"description": "x"}')
    with pytest.raises(DataSourceError) as caught:
        read(tmp_path)
    assert "state.json" in caught.value.got
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS[0]))
    (tmp_path / "statement.json").write_text(json.dumps(ROWS[1:2]))
    with caplog.at_level(logging.WARNING):
        assert [row.file for row in read(tmp_path)] == ["statement.json", "train.jsonl"]
    [message] = set(caplog.messages)
    assert "left out dataset_info.json, dataset_infos.json, state.json" in message
    rows = list(read_rows(DataSource(source=f"{tmp_path}/*.json*")))
    assert [row.file for row in rows] == ["statement.json", "train.jsonl"]


def test_state_that_is_no_list_of_files_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("[1")
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[0]))
    assert [row.file for row in read(tmp_path)] == ["a.jsonl"]
