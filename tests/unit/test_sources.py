from __future__ import annotations

import os
import sys
from pathlib import Path

import fsspec
import pytest

from schemas.errors import DataSourceError, ServiceUnreachable
from schemas.run_config import DataSource
from tasks._sources import (
    SourceKind,
    map_columns,
    read_rows,
    resolve_source,
    source_fingerprint,
)
from tests.toy import toy_rows, write_jsonl

GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k_train.jsonl"


def test_bundled_rows_are_mapped_without_importing_the_package() -> None:
    pytest.importorskip("zaragoza_construction_faq")
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


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("\n")
    with pytest.raises(DataSourceError, match="holds no row"):
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


def test_map_columns_renames_and_keeps_what_stood_there() -> None:
    row = {"prompt": "old", "question": "q", "answer": "a", "topic": "t"}
    mapped = map_columns(row, {"prompt": "question", "completion": "answer"})
    assert mapped == {"prompt": "q", "completion": "a", "original_prompt": "old", "topic": "t"}


def test_map_columns_can_swap() -> None:
    row = {"prompt": "1", "completion": "2"}
    mapped = map_columns(row, {"prompt": "completion", "completion": "prompt"})
    assert mapped == {"prompt": "2", "completion": "1"}


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

    monkeypatch.setattr("tasks._sources.hub_commit", refuse)
    with pytest.raises(ServiceUnreachable):
        source_fingerprint({"source": DataSource(source="owner/name")})


def test_messages_leave_the_secrets_of_an_address_out() -> None:
    address = "memory://user:pw@host/empty/a.jsonl"
    with fsspec.open(address, "w") as stream:
        stream.write("")
    with pytest.raises(DataSourceError, match=r"memory://host/empty/a\.jsonl holds no row"):
        list(read_rows(DataSource(source=address)))


@pytest.mark.skipif(not GSM8K.is_file(), reason="the shared data are not here")
def test_gsm8k_is_mapped() -> None:
    source = DataSource(source=str(GSM8K), columns={"prompt": "question", "completion": "answer"})
    rows = list(read_rows(source))
    assert len(rows) == 7473
    assert rows[0].row["prompt"].startswith("Natalia sold clips")
    assert rows[0].row["completion"].endswith("#### 72")
