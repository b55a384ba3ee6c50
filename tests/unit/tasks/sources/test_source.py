from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

import fsspec
import pytest

from schemas.config.run import DataSource
from schemas.errors import DataSourceError, ServiceUnreachable
from tasks.sources.source import (
    SourceKind,
    SourceWatch,
    read_blocks,
    read_rows,
    resolve_source,
    source_fingerprint,
)
from tests.support.parts import DEMO_ROWS, OPTIONAL, Part
from tests.support.toy import toy_rows, write_jsonl

GSM8K = Path(__file__).parents[4].parent / "shared" / "data" / "gsm8k_train.jsonl"


def test_bundled_rows_are_mapped_without_importing_the_package() -> None:
    DEMO_ROWS.require()
    sys.modules.pop("zaragoza_construction_faq", None)
    rows = list(read_rows(DataSource()))
    assert len(rows) == 503
    assert list(rows[0].row)[:2] == ["prompt", "completion"]
    assert rows[0].row["prompt"] == "What is a bygglov (building permit)?"
    assert rows[0].row["category"] == "bygglov"
    assert "zaragoza_construction_faq" not in sys.modules
    assert source_fingerprint({"source": DataSource()}).startswith("1.2.1 ")


def test_bundled_name_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataSourceError) as caught:
        resolve_source(DataSource())
    assert "pip install" in caught.value.fix


@DEMO_ROWS.mark
def test_bundled_name_comes_before_a_local_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "construction-faq").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_source(DataSource()).kind is SourceKind.BUNDLED


def test_local_path_comes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_source(DataSource(source="acme/faq")).kind is SourceKind.HUB
    (tmp_path / "acme" / "faq").mkdir(parents=True)
    write_jsonl(tmp_path / "acme" / "faq" / "a.jsonl", toy_rows(1))
    assert resolve_source(DataSource(source="acme/faq")).kind is SourceKind.LOCAL


@pytest.mark.parametrize("address", ["https://example.org/a.jsonl", "s3://bucket/a.csv"])
def test_scheme_makes_an_address(address: str) -> None:
    assert resolve_source(DataSource(source=address)).kind is SourceKind.ADDRESS


@pytest.mark.parametrize("name", ["nothing.jsonl", "data/nothing.jsonl", "no such thing", "a/b/c"])
def test_name_that_means_nothing_lists_what_is_accepted(name: str) -> None:
    with pytest.raises(DataSourceError) as caught:
        resolve_source(DataSource(source=name))
    assert caught.value.exit_code == 2
    assert "construction-faq" in caught.value.expected
    assert "owner/name" in caught.value.expected


def test_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", toy_rows(1))
    (tmp_path / "a.csv").write_text("prompt,completion\nx,y\n")
    write_jsonl(tmp_path / ".hidden.jsonl", toy_rows(1))
    (tmp_path / "README.md").write_text("x")
    rows = list(read_rows(DataSource(source=str(tmp_path))))
    assert [(row.file, row.line) for row in rows] == [("a.csv", 2), ("b.jsonl", 1)]


def test_folder_without_data_names_its_folders(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataSourceError) as caught:
        resolve_source(DataSource(source=str(tmp_path)))
    assert caught.value.got == "folders data"


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(DataSourceError, match="not a kind of data file"):
        resolve_source(DataSource(source=str(tmp_path / "a.xlsx")))


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", " \r\n\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.ndjson", "a.tsv"])
def test_empty_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    with pytest.raises(DataSourceError, match="has no row"):
        list(read_rows(DataSource(source=str(tmp_path / name))))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(1))
    path.chmod(0)
    with pytest.raises(DataSourceError, match="cannot be read"):
        list(read_rows(DataSource(source=str(path))))


def test_unreadable_file_is_a_data_source_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataSourceError, match="Permission denied"):
        list(read_rows(DataSource(source=str(path))))


def test_wrong_column_names_those_there_are(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "x", "answer": "y"}])
    source = DataSource(source=str(path), columns={"prompt": "Question", "completion": "answer"})
    with pytest.raises(DataSourceError) as caught:
        list(read_rows(source))
    assert "Question" in caught.value.what
    assert "question, answer" not in caught.value.what
    assert "question" in caught.value.expected


def test_watch_counts_what_other_processes_saw() -> None:
    source = DataSource(source="a.jsonl", columns={"prompt": "q"})
    watch = SourceWatch(source)
    watch.see(3, 2, {"id"})
    watch.see(1, 1, {"q"})
    watch.finish()
    with pytest.raises(DataSourceError, match="has no row"):
        SourceWatch(source).finish()
    lacking = SourceWatch(source)
    lacking.see(1, 1, {"id", "a"})
    with pytest.raises(DataSourceError, match=r"no row of a\.jsonl has a column q") as caught:
        lacking.finish()
    assert caught.value.expected == "one of the columns there are: a, id"


def test_watch_does_not_miss_a_column_where_no_row_is_an_object() -> None:
    watch = SourceWatch(DataSource(source="a.jsonl", columns={"prompt": "q"}))
    watch.see(2, 0, set())
    assert watch.finish() is None


def test_blocks_carry_the_mapping_to_where_they_are_parsed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"q": "x", "completion": "y"}])
    source = DataSource(source=str(path), columns={"prompt": "q"})
    [block] = list(read_blocks(source))
    assert (block.file, block.first_line, block.columns) == ("a.jsonl", 1, {"prompt": "q"})
    assert block.lines == path.read_bytes()
    assert [row.row for row in read_rows(source)] == [{"prompt": "x", "completion": "y"}]


def test_pattern_is_read_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for folder in ("b", "a/deep"):
        (tmp_path / folder).mkdir(parents=True)
        write_jsonl(tmp_path / folder / "x.jsonl", toy_rows(1))
    write_jsonl(tmp_path / "b" / "y.JSONL", toy_rows(1))
    (tmp_path / "b" / "notes.txt").write_text("x")

    def files(pattern: str) -> list[str]:
        return [row.file for row in read_rows(DataSource(source=f"{tmp_path}/{pattern}"))]

    assert files("b/*") == ["x.jsonl", "y.JSONL"]
    assert files("b/[x]*") == ["x.jsonl"]
    assert files("**/*.jsonl") == ["a/deep/x.jsonl", "b/x.jsonl"]
    assert [row.file for row in read_rows(DataSource(source=f"file://{tmp_path}/b/x*"))] == [
        "x.jsonl"
    ]


def test_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataSourceError, match="matches no data file") as caught:
        resolve_source(DataSource(source=f"{tmp_path}/*.txt"))
    assert caught.value.got == "files notes.txt"
    with pytest.raises(DataSourceError) as caught:
        resolve_source(DataSource(source=f"{tmp_path}/*.jsonl"))
    assert caught.value.got == "no match"


def test_name_with_the_signs_of_a_pattern_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a[1].jsonl", toy_rows(2))
    assert len(list(read_rows(DataSource(source=str(path))))) == 2


def test_empty_file_among_others_is_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", toy_rows(1))
    (tmp_path / "b.jsonl").write_bytes(b"")
    (tmp_path / "c.jsonl").write_bytes(b"\xef\xbb\xbf\n")
    (tmp_path / "d.csv").write_text("prompt,completion\n")
    rows = list(read_rows(DataSource(source=str(tmp_path))))
    assert [(row.file, row.unparseable) for row in rows[1:]] == [
        ("b.jsonl", "the file holds no row"),
        ("c.jsonl", "the file holds no row"),
        ("d.csv", "the file holds no row"),
    ]


def test_pipe_socket_and_folder_with_the_name_of_a_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataSourceError, match=r"pipe\.jsonl is a named pipe, not a file"):
        resolve_source(DataSource(source=str(tmp_path / "pipe.jsonl")))
    with pytest.raises(DataSourceError, match="named pipe"):
        source_fingerprint({"source": DataSource(source=str(tmp_path))})
    (tmp_path / "pipe.jsonl").unlink()
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("s.csv")
        with pytest.raises(DataSourceError, match="is a socket, not a file"):
            resolve_source(DataSource(source="s.csv"))
    (tmp_path / "s.csv").unlink()
    (tmp_path / "part.parquet").mkdir()
    with pytest.raises(DataSourceError, match="is a folder, not a file"):
        resolve_source(DataSource(source=str(tmp_path)))


@pytest.mark.parametrize("name", ["a" * 5000 + ".jsonl", "~nobody-of-that-name/a.jsonl", "a\0.csv"])
def test_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(DataSourceError):
        resolve_source(DataSource(source=name))


def test_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    first = write_jsonl(tmp_path / "a.jsonl", toy_rows(3))
    second = write_jsonl(tmp_path / "x" / "a.jsonl", toy_rows(3))

    def fingerprint(path: Path) -> str:
        return source_fingerprint({"source": DataSource(source=str(path))})

    assert fingerprint(first) == fingerprint(second)
    write_jsonl(second, toy_rows(4))
    assert fingerprint(first) != fingerprint(second)


def test_fingerprint_of_missing_data_says_what_is_missing() -> None:
    with pytest.raises(DataSourceError, match=r"there is no data called nothing\.jsonl"):
        source_fingerprint({"source": DataSource(source="nothing.jsonl")})


def test_fingerprint_lets_an_unreachable_hub_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: DataSource) -> None:
        raise ServiceUnreachable("the hub is away")

    monkeypatch.setattr("tasks.sources.source.dataset_commit", refuse)
    with pytest.raises(ServiceUnreachable):
        source_fingerprint({"source": DataSource(source="owner/name")})


def test_messages_leave_the_secrets_of_an_address_out() -> None:
    address = "memory://user:pw@host/empty/a.jsonl"
    with fsspec.open(address, "w") as stream:
        stream.write("")
    with pytest.raises(DataSourceError, match=r"memory://host/empty/a\.jsonl has no row"):
        list(read_rows(DataSource(source=address)))


@Part("GSM8K", f"{OPTIONAL}{GSM8K.name} in {GSM8K.parent}", GSM8K.is_file()).mark
def test_gsm8k_is_mapped() -> None:
    source = DataSource(source=str(GSM8K), columns={"prompt": "question", "completion": "answer"})
    rows = list(read_rows(source))
    assert len(rows) == 7473
    assert rows[0].row["prompt"].startswith("Natalia sold clips")
    assert rows[0].row["completion"].endswith("#### 72")
