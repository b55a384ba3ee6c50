from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path

import fsspec
import numpy

from schemas.config.run import DataSource
from tasks.engine.cache import OutputFolder, locate
from tasks.engine.home import work_directory
from tasks.engine.jsonl import read_lines
from tasks.engine.keys import StageKey, stage_key
from tasks.load_dataset import load_dataset, write_rows
from tests.support.toy import toy_rows, write_jsonl


def test_every_line_is_written_with_its_place(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"q": "ä", "a": "b"}\n\n{"q"\n')
    columns = {"prompt": "q", "completion": "a"}
    counts = write_rows(
        DataSource.model_validate({"source": str(source), "columns": columns}), tmp_path / "rows"
    )
    assert counts == {"": 2}
    lines = [json.loads(line) for line in (tmp_path / "rows").read_text("utf-8").splitlines()]
    assert lines == [
        {"file": "a.jsonl", "line": 1, "row": {"prompt": "ä", "completion": "b"}},
        {
            "file": "a.jsonl",
            "line": 3,
            "unparseable": "not JSON: Expecting ':' delimiter at column 5",
        },
    ]


def test_same_rows_give_the_same_sha256(tmp_path: Path) -> None:
    source = DataSource(source=str(write_jsonl(tmp_path / "a.jsonl", toy_rows(20))))
    digests = set()
    for name in ("one", "two"):
        write_rows(source, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_stage_returns_a_reference_to_its_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(4))
    stage = inspect.unwrap(load_dataset.fn)
    reference = stage(OutputFolder(StageKey("load_dataset", {})), DataSource(source=str(path)))
    assert (reference.source, reference.n_rows) == (str(path), 4)
    assert reference.sources == ()


def test_conversions_of_the_files_are_counted(tmp_path: Path) -> None:
    stage = inspect.unwrap(load_dataset.fn)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(toy_rows(4), indent=1), encoding="utf-8-sig")
    lines = write_jsonl(tmp_path / "b.jsonl", toy_rows(3))
    lines.write_text("\ufeff" + lines.read_text(encoding="utf-8"), encoding="utf-8")
    sources = {"one": DataSource(source=str(path)), "two": DataSource(source=str(lines))}
    reference = stage(OutputFolder(StageKey("load_dataset", {})), sources)
    assert reference.conversions == {"json_list_split": 4, "byte_order_mark_ignored": 1}
    reference = stage(OutputFolder(StageKey("load_dataset", {})), sources["one"])
    assert reference.conversions == {"json_list_split": 4}


def test_several_sources_become_one_set_that_tells_whose_row_is_whose(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    first = write_jsonl(tmp_path / "a.jsonl", [{"q": "One?", "a": "Two."}])
    second = write_jsonl(tmp_path / "new" / "a.jsonl", toy_rows(2))
    second.write_text(second.read_text() + "{\n")
    mapped = {"source": str(first), "columns": {"prompt": "q", "completion": "a"}}
    sources = {
        "old": DataSource.model_validate(mapped),
        "new": DataSource(source=str(second)),
    }
    stage = inspect.unwrap(load_dataset.fn)
    reference = stage(OutputFolder(StageKey("load_dataset", {})), sources)
    assert reference.source == f"new={second}, old={first}"
    assert reference.n_rows == 4
    assert [found.model_dump() for found in reference.sources] == [
        {"name": "new", "source": str(second), "n_rows": 3},
        {"name": "old", "source": str(first), "n_rows": 1},
    ]
    lines = list(read_lines(locate(reference, "rows.jsonl")))
    assert [(line["file"], line["line"]) for line in lines] == [
        ("new/a.jsonl", 1),
        ("new/a.jsonl", 2),
        ("new/a.jsonl", 3),
        ("old/a.jsonl", 1),
    ]
    assert lines[2]["unparseable"].startswith("not JSON")
    assert lines[3]["row"] == {"prompt": "One?", "completion": "Two."}


def test_key_of_several_sources_follows_their_content_and_names_the_change(
    tmp_path: Path,
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(2))
    sources = {"a": DataSource(source=str(path)), "b": DataSource(source=str(path))}
    before = stage_key(load_dataset.definition, {"source": sources}).parts
    assert before["config source.b.source"] == json.dumps(str(path))
    write_jsonl(path, toy_rows(3))
    after = stage_key(load_dataset.definition, {"source": sources}).parts
    assert {name for name in before if before[name] != after[name]} == {"source content"}


def test_nothing_stored_holds_the_secrets_of_an_address() -> None:
    folder = "memory://user:pw@host/rows"
    with fsspec.open(f"{folder}/a.jsonl", "w") as stream:
        stream.write('{"prompt": "What?", "completion": "This."}\n')
    source = DataSource(source=f"{folder}/a.jsonl")
    stage = inspect.unwrap(load_dataset.fn)
    reference = stage(OutputFolder(stage_key(load_dataset.definition, {"source": source})), source)
    assert (reference.source, reference.n_rows) == ("memory://host/rows/a.jsonl", 1)
    stored = [path for path in work_directory().rglob("*") if path.is_file()]
    assert {"manifest.json", "last_key.json", "rows.jsonl"} <= {path.name for path in stored}
    assert not any(b"pw" in path.read_bytes() for path in stored)


def test_digests_of_the_rows_lie_beside_them(tmp_path: Path) -> None:
    digests = []
    for name, rows in (("one", toy_rows(4)), ("two", toy_rows(4)[::-1]), ("three", toy_rows(5))):
        (tmp_path / name).mkdir()
        source = write_jsonl(tmp_path / name / "a.jsonl", rows)
        write_rows(DataSource(source=str(source)), tmp_path / name / "rows.jsonl")
        digests.append(numpy.load(tmp_path / name / "row_digests.npy"))
    assert digests[0].tolist() == digests[1].tolist()
    assert (digests[0].dtype, digests[0].shape) == (numpy.uint64, (4,))
    assert set(digests[0].tolist()) < set(digests[2].tolist())
