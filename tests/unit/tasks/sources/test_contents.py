from __future__ import annotations

import codecs
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from schemas.config.run import DataSource
from schemas.errors import DataSourceError
from tasks.sources.source import read_rows, resolve_source

ROWS = [{"prompt": f"How tall is wall {number}?", "completion": "Två meter."} for number in (1, 2)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(path: Path, **settings: Any) -> list[Any]:
    return [row.row for row in read_rows(DataSource(source=str(path), **settings))]


def refused(path: Path, content: bytes) -> DataSourceError:
    path.write_bytes(content)
    with pytest.raises(DataSourceError) as caught:
        read(path)
    assert caught.value.exit_code == 2
    assert caught.value.fix
    return caught.value


def parquet_bytes() -> bytes:
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def arrow_bytes(*, is_stream: bool) -> bytes:
    table, sink = pyarrow.Table.from_pylist(ROWS), io.BytesIO()
    new = pyarrow.ipc.new_stream if is_stream else pyarrow.ipc.new_file
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def zip_bytes() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a.jsonl", LINES)
    return sink.getvalue()


READABLE = {
    "gzip": gzip.compress(LINES.encode()),
    "zstd": bytes(pyarrow.Codec("zstd").compress(LINES.encode(), asbytes=True)),
    "parquet": parquet_bytes(),
    "packed parquet": gzip.compress(parquet_bytes()),
    "arrow stream": arrow_bytes(is_stream=True),
    "arrow file": arrow_bytes(is_stream=False),
    "zip": zip_bytes(),
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE.keys())
def test_content_counts_more_than_the_name(tmp_path: Path, content: bytes) -> None:
    is_table = content not in (READABLE["gzip"], READABLE["zstd"])
    for name in ("a.jsonl", "a.json", *(["a.csv", "a.arrow", "a.parquet"] if is_table else [])):
        (tmp_path / name).write_bytes(content)
        assert read(tmp_path / name) == ROWS


@pytest.mark.parametrize("header", ["PAR1,b", "ORC,b", "ID3,b", "FEA1,b", "OggS,b", "ARROW1,b"])
def test_a_column_may_be_called_like_the_mark_of_a_file(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\nx,y\n")
    assert read(path) == [{header[:-2]: "x", "b": "y"}]


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "LFS", "lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Log in</body></html>", "a web page", "download"),
        (b"\xef\xbb\xbf\n <HTML lang='en'>", "a web page", "download"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML", "download"),
        (b"%PDF-1.7\n%\xe2\xe3", "a document", "as rows"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "a document", "as rows"),
        (b"{\\rtf1\\ansi hello}", "a document", "as rows"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xfe" + bytes(range(256)), "a picture", "texts"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture", "texts"),
        (b"BZh91AY&SY\0\0", "packed in a way", "unpack"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "packed in a way", "unpack"),
        (b"SQLite format 3\0\x10\0", "another program", "Parquet"),
        (pickle.dumps(ROWS), "another program", "Parquet"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow"])
def test_what_has_no_rows_is_named_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, what: str, fix: str
) -> None:
    error = refused(tmp_path / name, content)
    assert what in error.what
    assert fix in error.fix


def test_tar_archive_is_named(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"))
    assert "packed in a way" in refused(tmp_path / "a.jsonl", sink.getvalue()).what


def test_texts_about_such_files_are_read(tmp_path: Path) -> None:
    rows = [{"prompt": "<!DOCTYPE html> version https://git-lfs", "completion": "%PDF-"}]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(rows[0]))
    assert read(path) == rows
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\n<html>,%PDF-\n")
    assert read(path) == [{"prompt": "<html>", "completion": "%PDF-"}]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_json_under_the_name_of_a_table_is_named(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path / name, LINES.encode()).fix == "end its name in .jsonl"


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_characters_with_their_mark_are_read(tmp_path: Path, codec: str, kind: str) -> None:
    mark = {
        "utf-16-le": codecs.BOM_UTF16_LE,
        "utf-16-be": codecs.BOM_UTF16_BE,
        "utf-32-le": codecs.BOM_UTF32_LE,
        "utf-32-be": codecs.BOM_UTF32_BE,
    }[codec]
    text = "a,b\nä,問\n" if kind == ".csv" else '{"a": "ä", "b": "問"}\n'
    path = tmp_path / f"a{kind}"
    path.write_bytes(mark + text.encode(codec))
    assert read(path) == [{"a": "ä", "b": "問"}]
    packed = tmp_path / f"b{kind}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == [{"a": "ä", "b": "問"}]


def test_wide_file_of_many_chunks_is_read_whole(tmp_path: Path) -> None:
    rows = [{"a": f"{number} " + "å\U0001f600" * 50} for number in range(20_000)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-16")
    assert path.stat().st_size > 4 << 20
    assert read(path) == rows


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv"])
def test_wide_characters_without_a_mark_are_refused_as_a_whole(
    tmp_path: Path, codec: str, kind: str
) -> None:
    text = '[{"a": "ä"}, {"a": "b"}]\n'
    error = refused(tmp_path / f"a{kind}", text.encode(codec))
    name = codec.upper().replace("-LE", "LE").replace("-BE", "BE")
    assert f"not UTF-8: it is {name}" in error.what
    assert f"iconv -f {name} -t UTF-8 a{kind}" in error.fix
    setting = error.fix.partition("data.source.encoding=")[2].split()[0]
    if kind != ".csv":
        assert read(tmp_path / f"a{kind}", encoding=setting) == [{"a": "ä"}, {"a": "b"}]


def latin(n_rows: int, ending: str = ".csv") -> bytes:
    lines = [f"Hur hög är muren {number}?,två meter" for number in range(n_rows)]
    return ("prompt,completion\n" + "\n".join(lines) + "\n").encode("cp1252")


def test_one_byte_characters_are_refused_with_place_and_command(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.csv", latin(4))
    assert error.where == "a.csv:2"
    assert "4 of its first 5 lines have other bytes" in error.what
    assert "0xF6 at byte 6 of line 2" in error.what
    assert "iconv -f CP1252 -t UTF-8 a.csv > utf8-a.csv" in error.fix
    assert "data.source.encoding=cp1252" in error.fix
    rows = read(tmp_path / "a.csv", encoding="cp1252")
    assert rows[0] == {"prompt": "Hur hög är muren 0?", "completion": "två meter"}
    assert len(rows) == 4


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    content = b"".join(bytes([number, 0xE9, number * 7 % 32]) * 9 + b"\n" for number in range(1, 9))
    error = refused(tmp_path / "a.jsonl", content)
    assert error.what == "a.jsonl is binary, not text"


def test_damaged_rows_are_no_reason_to_refuse_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(latin(2))
    assert [row["completion"] for row in read(path)] == ["tv\ufffd meter"] * 2
    path.write_bytes(latin(5) + "blå,gul\n".encode())
    assert len(read(path)) == 6


def test_characters_cut_by_the_end_of_what_is_looked_at_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "ä,å\n" * 40, encoding="utf-8")
    for n_bytes in range(60, 70):
        monkeypatch.setattr("tasks.sources._contents.START_BYTES", n_bytes)
        assert len(read(path)) == 40


def test_mark_of_utf8_counts_more_than_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\nä,å\n", encoding="utf-8-sig")
    assert read(path, encoding="cp1252") == [{"a": "ä", "b": "å"}]


@pytest.mark.parametrize(
    ("name", "content", "fix"),
    [
        ("train", parquet_bytes(), "end its name in .parquet"),
        ("train.data", arrow_bytes(is_stream=True), "end its name in .arrow"),
        ("train", zip_bytes(), "end its name in .zip"),
        ("train", gzip.compress(LINES.encode(), mtime=0), "end its name in .jsonl.gz"),
        ("train.txt", LINES.encode(), "end its name in .jsonl"),
        ("train.jsonl.bak", LINES.encode(), "end its name in .jsonl"),
        ("train", b"<html></html>", "download the file itself"),
        ("train.txt", b"Once upon a time", "if it has one JSON object a line"),
        ("train", b"Once upon a time", "right ending"),
    ],
)
def test_file_whose_name_tells_nothing_is_looked_into(
    tmp_path: Path, name: str, content: bytes, fix: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataSourceError) as caught:
        resolve_source(DataSource(source=str(path)))
    assert fix in caught.value.fix


def test_archive_in_an_archive_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "a.jsonl", gzip.compress(zip_bytes()))
    assert "an archive in an archive" in error.what


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Перечислите меры, которые помогут сократить выбросы.", "cp1251"),
        ("Перечислите меры, которые помогут сократить выбросы.", "koi8-r"),
        ("请列出可以减少排放的措施。", "gb18030"),
        ("請列出可以減少排放的措施。", "big5"),
        ("排出量を減らす方法を挙げてください。", "shift_jis"),
        ("배출을 줄이는 방법을 나열하세요.", "euc-kr"),
        ("Wymień środki, które pomogą ograniczyć emisję.", "cp1250"),
        ("Größe der Mauer – für Mädchen “schön”.", "cp1252"),
    ],
)
def test_likely_encodings_are_named_and_read_the_text(
    tmp_path: Path, text: str, encoding: str
) -> None:
    path = tmp_path / "a.csv"
    rows = [{"prompt": f"{number} {text}", "completion": text} for number in range(5)]
    lines = ["prompt,completion", *(f'"{row["prompt"]}","{row["completion"]}"' for row in rows)]
    path.write_bytes("\n".join(lines).encode(encoding))
    with pytest.raises(DataSourceError) as caught:
        read(path)
    assert "perhaps " in caught.value.got
    assert "look at the texts" in caught.value.fix
    named = caught.value.fix.partition("data.source.encoding=")[2].split()[0]
    assert read(path, encoding=named) == rows


def test_json_named_csv_and_the_reverse_are_refused(tmp_path: Path) -> None:
    for text in ('{"a": "b, c"}\n{"a": "d"}\n', '[\n {\n  "a": "b"\n }\n]'):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataSourceError, match=r"a\.csv is JSON, not CSV") as caught:
            read(tmp_path / "a.csv")
        assert caught.value.fix == "end its name in .jsonl"
    (tmp_path / "a.csv").write_text("{a},[b]\nc,d\n")
    assert read(tmp_path / "a.csv") == [{"{a}": "c", "[b]": "d"}]
    for text, ending in (
        ('"Question","Answer"\nb,c\n', ".csv"),
        ("prompt\tcompletion\nb\tc", ".tsv"),
    ):
        for name in ("a.json", "a.jsonl"):
            (tmp_path / name).write_text(text)
            with pytest.raises(DataSourceError, match="is CSV, not JSON") as caught:
                read(tmp_path / name)
            assert caught.value.fix == f"end its name in {ending}"
