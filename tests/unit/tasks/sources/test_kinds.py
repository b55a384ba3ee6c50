from __future__ import annotations

import pytest

from tasks.sources._kinds import ENDINGS, WAYS_OUT, data_ending, is_data, unknown_kind, way_out
from tasks.sources._readers import READERS


def test_ending_names_kind_and_compression() -> None:
    assert data_ending("x/Data.JSONL.GZ") == (".jsonl", ".gz")
    assert data_ending("a.v2.ndjson") == (".ndjson", "")
    assert data_ending("a.parquet.zst") == (".parquet", ".zst")
    assert data_ending("a.arrow") == (".arrow", "")
    assert data_ending("a.Zip") == (".zip", "")
    for name in ("a.gz", "a.txt.gz", "a.jsonl.bz2", ".jsonl", "a", "a.gz.jsonl.txt", ".gz", "."):
        assert data_ending(name) is None
    assert data_ending("a.zip.gz") is None


def test_every_ending_has_a_reader() -> None:
    assert tuple(READERS) == ENDINGS


@pytest.mark.parametrize("name", ["state.json", "x/dataset_info.json", ".a.jsonl", "README.md"])
def test_metadata_and_hidden_files_are_no_data_of_a_folder(name: str) -> None:
    assert not is_data(name)
    assert is_data("my_state.json")


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("Data.XLSX", "a spreadsheet", "as CSV"),
        ("a.ods", "a spreadsheet", "as CSV"),
        ("a.doc", "a document", "JSON object a line"),
        ("a.pdf", "a document", "JSON object a line"),
        ("a.jpeg", "a picture", "only text"),
        ("a.tar.gz", "an archive", "unpack it"),
        ("a.pkl", "a file of another program", "Parquet"),
        ("a.txt", "plain text", ".jsonl"),
    ],
)
def test_file_of_another_kind_has_a_way_out(name: str, what: str, fix: str) -> None:
    error = unknown_kind(name)
    assert f"{name} is not a kind of data file that can be read: it is {what}" in error.what
    assert fix in error.fix
    assert error.exit_code == 2


def test_unknown_ending_has_a_way_out_too() -> None:
    error = unknown_kind("a.qqq")
    assert (error.got, error.what) == (".qqq", "a.qqq is not a kind of data file that can be read")
    assert "right ending" in error.fix
    assert way_out("README")[0] == ""


def test_no_ending_is_read_and_refused() -> None:
    refused = {ending for endings, _ in WAYS_OUT.values() for ending in endings.split()}
    assert not any(data_ending(f"a{ending}") for ending in refused)
