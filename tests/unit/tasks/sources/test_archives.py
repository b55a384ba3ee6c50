from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from schemas.config.run import DataSource
from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources import _archives
from tasks.sources.source import read_rows

LINE = '{"prompt": "å", "completion": "b"}\n'
ROW = {"prompt": "å", "completion": "b"}


def pack(path: Path, members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def read(path: Path, **settings: str) -> list[SourceRow]:
    return list(read_rows(DataSource.model_validate({"source": str(path), **settings})))


def refused(path: Path) -> DataSourceError:
    with pytest.raises(DataSourceError) as caught:
        read(path)
    assert (caught.value.exit_code, bool(caught.value.fix)) == (2, True)
    return caught.value


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([ROW]), sink)
    return sink.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archive_of_one_file_is_read(tmp_path: Path, method: int) -> None:
    path = pack(tmp_path / "a.zip", {"deep/train.jsonl": LINE}, method)
    assert read(path) == [SourceRow("a.zip/deep/train.jsonl", 1, ROW)]


def test_data_files_are_read_in_order_and_others_are_left_out(tmp_path: Path) -> None:
    members: dict[str, str | bytes] = {
        "data/b.csv": "prompt,completion\nå,b\n",
        "data/a.parquet": parquet_bytes(),
        "data/empty.jsonl": "",
        "data/dataset_info.json": "{}",
        "README.md": "x",
        "__MACOSX/data/._b.csv": "x",
        "data/.hidden.jsonl": "x",
        "inner.zip": b"x",
    }
    rows = read(pack(tmp_path / "a.zip", members))
    assert rows == [
        SourceRow("a.zip/data/a.parquet", 1, ROW),
        SourceRow("a.zip/data/b.csv", 2, ROW),
        SourceRow("a.zip/data/empty.jsonl", 1, unparseable="the file holds no row"),
    ]


def test_members_are_packed_and_encoded_as_files_are(tmp_path: Path) -> None:
    import gzip

    members: dict[str, str | bytes] = {
        "a.jsonl.gz": gzip.compress(LINE.encode()),
        "b.jsonl": gzip.compress(LINE.encode()),
        "c.jsonl": LINE.encode("utf-16"),
    }
    assert [row.row for row in read(pack(tmp_path / "a.zip", members))] == [ROW] * 3
    latin = pack(tmp_path / "b.zip", {"a.jsonl": LINE.encode("cp1252")})
    assert [row.row for row in read(latin, encoding="cp1252")] == [ROW]


def test_names_that_lead_elsewhere_are_left_out_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    members: dict[str, str | bytes] = {
        "../up.jsonl": LINE,
        "x/../../up.jsonl": LINE,
        "a.jsonl": LINE,
    }
    rows = read(pack(tmp_path / "in" / "a.zip", members))
    assert [row.file for row in rows] == ["a.zip/a.jsonl"]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_archive_without_data_names_what_is_there(tmp_path: Path) -> None:
    error = refused(pack(tmp_path / "a.zip", {"notes.txt": "x"}))
    assert error.what == "a.zip has no data file in it"
    assert error.got == "files notes.txt"
    assert refused(pack(tmp_path / "b.zip", {})).got == "an empty archive"


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ({"[Content_Types].xml": "x", "xl/workbook.xml": "x"}, "a spreadsheet"),
        ({"[Content_Types].xml": "x", "word/document.xml": "x"}, "a document"),
        ({"mimetype": "x", "content.xml": "x"}, "a document"),
    ],
)
def test_office_files_under_another_name_are_named(
    tmp_path: Path, members: dict[str, str | bytes], what: str
) -> None:
    for name in ("a.zip", "a.csv"):
        assert what in refused(pack(tmp_path / name, members)).what


def test_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "a.zip", {"a.jsonl": "1\n" * 200_000})
    assert len(read(path)) == 200_000
    monkeypatch.setattr(_archives, "MOST_BYTES", 1000)
    assert "400,000 bytes in 1 files" in refused(path).got
    monkeypatch.setattr(_archives, "MOST_MEMBERS", 1)
    assert "2 files" in refused(pack(tmp_path / "b.zip", {"a.jsonl": LINE, "b.jsonl": LINE})).got


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jsonl", LINE)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.jsonl", LINE)
    assert "of different names" in refused(path).expected


def test_password_is_named(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a.jsonl": LINE})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert refused(path).got == "a password"


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    members: dict[str, str | bytes] = {"a.jsonl": json.dumps({"a": "x" * 1000}) * 50}
    path = pack(tmp_path / "a.zip", members, zipfile.ZIP_STORED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert "not a readable ZIP archive" in refused(path).what
    path.write_bytes(whole.replace(b"xxx", b"xyx", 1))
    assert "cannot be unpacked: Bad CRC-32" in refused(path).what
    path.write_text("text")
    assert "not a readable ZIP archive" in refused(path).what


def test_archive_of_another_version_is_refused(
    tmp_path: Path,
) -> None:
    path = pack(tmp_path / "a.zip", {"a.jsonl": LINE})
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 6] = 0x98  # needs version 15.2
    path.write_bytes(bytes(content))
    assert "not a readable ZIP archive" in refused(path).what
