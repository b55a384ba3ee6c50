from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tasks.sources._files import local_files

ROW = {"prompt": "a", "completion": "b"}


def names(name: Path | str) -> list[str]:
    return [path.name for path in local_files(str(name))]


@pytest.mark.parametrize(
    "value", [{"license": "mit"}, {"model": {"layers": 2}, "seeds": [1, 2]}, {"n_rows": 3}]
)
def test_single_objects_without_rows_are_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "metadata.json").write_text(json.dumps(value, indent=2))
    (tmp_path / "dataset_info.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert names(tmp_path) == ["train.jsonl"]
    [message] = caplog.messages
    assert "left out dataset_info.json, metadata.json, which describe the data" in message
    assert names(f"{tmp_path}/*.json*") == ["train.jsonl"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROW),
        json.dumps([{"a": "b"}]),
        json.dumps({"data": [{"a": "b"}]}),
        json.dumps({"messages": [], "id": 1}),
        json.dumps({"prompt": ["a", "b"], "completion": ["c", "d"]}),
        '{"a": 1}\n{"a": 2}\n',
        '{"a": ',
    ],
)
def test_data_in_json_is_not_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "other.json").write_text(text)
    assert names(tmp_path) == ["other.json", "train.jsonl"]


def test_folder_with_one_object_a_file_is_data(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.json").write_text(json.dumps({"frage": "a", "antwort": "b"}))
    assert names(tmp_path) == ["0.json", "1.json", "2.json"]
    (tmp_path / "more.jsonl").write_text(json.dumps(ROW))
    assert names(tmp_path) == ["0.json", "1.json", "2.json", "more.jsonl"]


def test_only_file_of_a_folder_is_data(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"license": "mit"}')
    assert names(tmp_path) == ["metadata.json"]
