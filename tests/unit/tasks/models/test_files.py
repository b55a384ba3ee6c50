"""What may leave the machine, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.engine.redaction import without_folders
from tasks.models.files import remove_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/anna/rows.jsonl", "rows.jsonl"),
        ("file:///home/anna/models/faq", "faq"),
        ("data/rows.jsonl", "data/rows.jsonl"),
        ("owner/model", "owner/model"),
        ("https://example.org/rows.jsonl", "https://example.org/rows.jsonl"),
        ("", ""),
    ],
)
def test_without_folders_cuts_absolute_paths_alone(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_remove_paths_takes_out_absolute_paths_alone(tmp_path: Path) -> None:
    settings = {
        "base_model_name_or_path": str(tmp_path),
        "name_or_path": "owner/model",
        "text_config": {"_name_or_path": "/home/anna/model", "pad": "/"},
        "parts": [{"vocab_file": "/home/anna/vocab.json"}],
        "r": 8,
    }
    (tmp_path / "adapter").mkdir()
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    remove_paths(tmp_path)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "base_model_name_or_path": "",
        "name_or_path": "owner/model",
        "text_config": {"_name_or_path": "", "pad": "/"},
        "parts": [{"vocab_file": ""}],
        "r": 8,
    }


def test_remove_paths_leaves_what_names_none_or_is_not_json(tmp_path: Path) -> None:
    texts = {"config.json": '{"a":   1}', "bad_config.json": "{", "list_config.json": "[1]"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    remove_paths(tmp_path)
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in texts} == texts
