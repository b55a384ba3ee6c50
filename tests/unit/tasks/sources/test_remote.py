from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from schemas.config.run import DataSource
from schemas.errors import DataSourceError, ServiceUnreachable
from tasks.sources._remote import address_version, read_address
from tasks.sources.source import read_rows, source_fingerprint
from tests.support.parts import FLOW
from tests.support.toy import toy_rows, write_jsonl

COMMIT = "a" * 40
READ = """
import json, sys
from schemas.errors import SftFlowError
from schemas.config.run import DataSource
from tasks.sources.source import read_rows, source_fingerprint
for text in sys.argv[1:]:
    source = DataSource.model_validate_json(text)
    try:
        rows = [row.row for row in read_rows(source)]
        print(json.dumps([source_fingerprint({"source": source}), rows]))
    except SftFlowError as error:
        print(json.dumps([type(error).__name__, error.what, error.fix]))
"""


def read_in_process(environment: dict[str, str], *sources: DataSource) -> list[list[str]]:
    """The hub's settings are read when its library is imported, so each case needs a process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", READ, *(source.model_dump_json() for source in sources)],
        env={**inherited, **environment, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


@FLOW.mark
def test_hub_dataset_is_read_from_a_cache_laid_out_as_the_library_does(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "datasets--acme--faq"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    rows = toy_rows(3)
    write_jsonl(snapshot / "train.jsonl", rows)
    found = read_in_process(
        {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        DataSource(source="acme/faq"),
        DataSource(source="acme/faq", revision=COMMIT),
        DataSource(source="acme/faq", split="test"),
        DataSource(source="acme/faq", config_name="other"),
        DataSource(source="acme/faq", revision="v9"),
        DataSource(source="acme/absent"),
    )
    assert found[0] == found[1] == [f"commit {COMMIT}", rows]
    assert [case[0] for case in found[2:]] == ["DataSourceError"] * 4
    assert "train" in found[2][1]
    assert "default" in found[3][1]
    assert "HF_HUB_OFFLINE" in found[4][1]
    assert "HF_HUB_OFFLINE" in found[5][2]


@FLOW.mark
def test_hub_rows_come_without_the_nulls_of_arrow(tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "datasets--acme--tools"
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)

    def row(arguments: dict[str, str], note: str | None) -> dict[str, object]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        ask = {"role": "user", "content": "x"}
        answer = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"messages": [ask, answer], "note": note}

    rows = [row({"city": "Lund"}, None), row({"street": "Storgatan"}, "y")]
    write_jsonl(snapshot / "train.jsonl", rows)
    [[_, found]] = read_in_process(
        {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        DataSource(source="acme/tools", revision=COMMIT),
    )
    assert found == rows


@FLOW.mark
def test_unreachable_hub_gives_one_sentence_and_the_offline_way(tmp_path: Path) -> None:
    # Port 9 of this machine: nothing listens there, so the connection is refused at once.
    [[kind, what, fix]] = read_in_process(
        {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"},
        DataSource(source="acme/faq"),
    )
    assert kind == "ServiceUnreachable"
    assert what == "the Hugging Face Hub cannot be reached"
    assert "HF_HUB_OFFLINE=1" in fix
    assert "local folder" in fix


@pytest.fixture
def memory() -> Iterator[object]:
    import fsspec

    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_memory_address_is_read_and_its_version_follows_the_content(memory: object) -> None:
    import fsspec

    address = "memory://data/a.jsonl"
    with fsspec.open(address, "w") as stream:
        stream.write('{"prompt": "a", "completion": "b"}\n')
    before = address_version(address)
    assert [row.row for row in read_rows(DataSource(source=address))] == [
        {"prompt": "a", "completion": "b"}
    ]
    with fsspec.open(address, "w") as stream:
        stream.write('{"prompt": "a", "completion": "c"}\n')
    assert address_version(address) != before


def test_folder_at_an_address_is_read_in_order(memory: object) -> None:
    import fsspec

    for name in ("b.jsonl", "a.jsonl", "notes.txt"):
        with fsspec.open(f"memory://data/{name}", "w") as stream:
            stream.write(f'{{"prompt": "{name}", "completion": "x"}}\n')
    assert [block.file for block in read_address("memory://data")] == ["a.jsonl", "b.jsonl"]


def test_pattern_and_packed_files_at_an_address_are_read(memory: object) -> None:
    import fsspec

    for name in ("b.jsonl.gz", "a.jsonl", "c.csv"):
        with fsspec.open(f"memory://data/{name}", "wt", compression="infer") as stream:
            stream.write(f'{{"prompt": "{name}", "completion": "x"}}\n')
    rows = list(read_rows(DataSource(source="memory://data/*.jsonl*")))
    assert [(row.file, row.row["prompt"]) for row in rows] == [
        ("a.jsonl", "a.jsonl"),
        ("b.jsonl.gz", "b.jsonl.gz"),
    ]
    with pytest.raises(DataSourceError, match="no data file at this address"):
        list(read_address("memory://data/*.parquet"))


def test_files_of_one_name_at_an_address_are_told_by_their_folders(memory: object) -> None:
    import fsspec

    for folder in ("b/deep", "a"):
        with fsspec.open(f"memory://data/{folder}/train.jsonl", "w") as stream:
            stream.write(f'{{"prompt": "{folder}", "completion": "x"}}\n')
    rows = list(read_rows(DataSource(source="memory://data/**/train.jsonl")))
    assert [(row.file, row.row["prompt"]) for row in rows] == [
        ("a/train.jsonl", "a"),
        ("b/deep/train.jsonl", "b/deep"),
    ]
    [row] = read_rows(DataSource(source="memory://data/a/*.jsonl"))
    assert row.file == "train.jsonl"


def test_version_of_an_address_follows_the_folders_of_its_files(memory: object) -> None:
    import fsspec

    def version(*folders: str) -> str:
        fsspec.filesystem("memory").rm("/", recursive=True)
        for folder in folders:
            with fsspec.open(f"memory://data/{folder}/x.jsonl", "w") as stream:
                stream.write("1\n")
        return address_version("memory://data/*/x.jsonl")

    assert version("a", "b") != version("a", "c")


def test_folder_without_data_and_missing_file_are_refused(memory: object) -> None:
    import fsspec

    with fsspec.open("memory://data/notes.txt", "w") as stream:
        stream.write("x")
    with pytest.raises(DataSourceError, match="no data file at this address"):
        list(read_address("memory://data"))
    with pytest.raises(DataSourceError, match="no file at this address"):
        list(read_address("memory://data/a.jsonl"))


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(DataSourceError, match="cannot be read"):
        list(read_address("gopher9://data/a.jsonl"))


def test_file_address_is_a_local_path(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", toy_rows(2))
    source = DataSource(source=f"file://{path}")
    assert len(list(read_rows(source))) == 2
    local = source_fingerprint({"source": DataSource(source=str(path))})
    assert source_fingerprint({"source": source}) == local


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/broken"):
            self.send_error(503)
        elif self.path.startswith("/closed"):
            self.send_error(403)
        else:
            super().do_GET()

    do_HEAD = do_GET  # noqa: N815 - the base class looks this name up


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = partial(Handler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.loopback
def test_http_address_is_read_with_a_query(web: str, tmp_path: Path) -> None:
    rows = toy_rows(3)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    address = f"{web}/a.jsonl?token=secret"
    found = list(read_rows(DataSource(source=address)))
    assert [(row.file, row.row) for row in found] == [("a.jsonl", row) for row in rows]
    before = address_version(address)
    assert address_version(address) == before
    write_jsonl(path, toy_rows(4))
    assert address_version(address) != before


@pytest.mark.loopback
def test_http_faults_say_whether_to_try_again(web: str) -> None:
    with pytest.raises(DataSourceError, match="no file at this address"):
        list(read_address(f"{web}/absent.jsonl"))
    with pytest.raises(DataSourceError) as refused:
        list(read_address(f"{web}/closed.jsonl?token=secret"))
    assert "secret" not in str(refused.value)
    with pytest.raises(ServiceUnreachable):
        list(read_address(f"{web}/broken.jsonl"))


@pytest.mark.loopback
def test_server_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(ServiceUnreachable, match="did not answer"):
        list(read_address("http://127.0.0.1:9/a.jsonl"))
