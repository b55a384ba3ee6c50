"""What a data producer may feed to `sft-flow check`: one clear answer each, and no row lost."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli.main import main
from tests.support.toy import as_messages, ordinary_rows, write_jsonl

pytestmark = pytest.mark.integration

ROWS = ordinary_rows(40)
LONG_BYTES = 80 << 20


@dataclass(frozen=True)
class BadFile:
    """One thing that is no data as it should be, and how the check ends."""

    name: str
    write: Callable[[Path], Path]
    exit_code: int
    parts: tuple[str, ...]
    """Of what the reader is told: an error, or the rules in the report."""
    counts: tuple[int, int] = (0, 0)
    """Rows kept and set aside, where there is a report."""
    options: tuple[str, ...] = field(default=("--only", "rows"))


def jsonl(*lines: bytes, has_rows: bool = True) -> Callable[[Path], Path]:
    """Write good rows and then the lines."""

    def write(folder: Path) -> Path:
        path = write_jsonl(folder / "a.jsonl", ROWS if has_rows else [])
        with path.open("ab") as stream:
            stream.writelines(lines)
        return path

    return write


def raw(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def rows(*values: Any) -> Callable[[Path], Path]:
    return lambda folder: write_jsonl(folder / "a.jsonl", list(values))


def folder_without_data(folder: Path) -> Path:
    (folder / "notes.txt").write_text("nothing")
    return folder


def wrong_parquet(folder: Path) -> Path:
    import polars

    path = folder / "a.parquet"
    polars.DataFrame({"question": ["a", "b"], "score": [0.5, None]}).write_parquet(path)
    return path


def ragged_csv(folder: Path) -> Path:
    lines = ["prompt,completion", *(f'"{row["prompt"]}","{row["completion"]}"' for row in ROWS)]
    path = folder / "a.csv"
    path.write_text("\n".join([*lines, "too few", "much,too,many,cells", ""]))
    return path


def many_messages(folder: Path) -> Path:
    turns = [{"role": role, "content": "Two metres."} for role in ("user", "assistant")]
    row: dict[str, object] = {"messages": turns * 5000}
    return write_jsonl(folder / "a.jsonl", [*as_messages(ROWS), row])


def number_content(folder: Path) -> Path:
    messages = [{"role": "user", "content": 5}, {"role": "assistant", "content": [1.5]}]
    row: dict[str, object] = {"messages": messages}
    return write_jsonl(folder / "a.jsonl", [*as_messages(ROWS), row])


PACKED = gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
BAD_FILES = (
    BadFile("folder without data", folder_without_data, 2, ("DataSourceError", "no data file")),
    BadFile("no byte", raw("a.jsonl", b""), 2, ("DataSourceError", "a.jsonl has no row")),
    BadFile("only line feeds", raw("a.jsonl", b"\n\n\n"), 2, ("has no row",)),
    BadFile("cut mid-line", jsonl(b'{"prompt": "How t'), 0, ("unparseable_line",), (40, 1)),
    BadFile(
        "line of 80 MB",
        jsonl(b'{"prompt": "', b"x" * LONG_BYTES, b'", "completion": "a"}\n{"prompt": "\n'),
        0,
        ("unparseable_line", "longer than 64 MiB"),
        (40, 2),
    ),
    BadFile("deep", jsonl(b"[" * 100_000, b"]" * 100_000), 0, ("nested too deeply",), (40, 1)),
    BadFile("deep and cut", jsonl(b'{"a":' * 100_000), 0, ("unparseable_line",), (40, 1)),
    BadFile("bytes of zero", jsonl(b"\x00" * 100, b"\n"), 0, ("unparseable_line",), (40, 1)),
    BadFile(
        "zero in a text",
        jsonl(b'{"prompt": "a\\u0000b", "completion": "c"}\n'),
        0,
        ("control_characters", "U+0000"),
        (40, 1),
    ),
    BadFile(
        "no UTF-8",
        jsonl(b'{"prompt": "\xff", "completion": "c"}\n'),
        0,
        ("encoding_damage",),
        (40, 1),
    ),
    BadFile(
        "UTF-16",
        raw("a.jsonl", (json.dumps(ROWS[0]) + "\n").encode("utf-16")),
        0,
        (),
        (1, 0),
    ),
    BadFile(
        "UTF-16 without its mark",
        raw("a.jsonl", (json.dumps(ROWS[0]) + "\n").encode("utf-16-le")),
        2,
        ("DataSourceError", "UTF-16LE", "data.source.encoding=utf-16le"),
    ),
    BadFile(
        "indented list",
        raw("a.jsonl", json.dumps(ROWS, indent=2).encode()),
        0,
        (),
        (40, 0),
    ),
    BadFile("wrong Parquet", wrong_parquet, 1, ("unknown_format", "question, score"), (0, 2)),
    BadFile(
        "no Parquet", raw("a.parquet", b"PAR1 but no more"), 2, ("DataSourceError", "a.parquet")
    ),
    BadFile("ragged CSV", ragged_csv, 0, ("unparseable_line",), (40, 2)),
    BadFile("cut gzip", raw("a.jsonl.gz", PACKED[:-20]), 2, ("DataSourceError", "a.jsonl.gz")),
    BadFile("broken gzip", raw("a.jsonl.gz", b"no gzip"), 2, ("DataSourceError", "a.jsonl.gz")),
    BadFile("numbers for content", number_content, 0, ("content_not_text",), (40, 1)),
    BadFile("10,000 messages", many_messages, 0, (), (41, 0)),
    BadFile("not an object", rows(None, 1, "a", [], True), 1, ("not_an_object",), (0, 5)),
    BadFile("no row", raw("a.json", b"[]"), 2, ("DataSourceError", "has no row"), options=()),
    BadFile("one row", rows(ROWS[0]), 1, ("min_rows",), (1, 0), options=()),
    BadFile("two rows", rows(*ROWS[:2]), 1, ("min_rows",), (2, 0), options=()),
    BadFile("one bad row", rows({"prompt": 1}), 1, ("unknown_format",), (0, 1), options=()),
)


def check(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["check", str(path), *options])


SMALL_FILES = [bad for bad in BAD_FILES if bad.name != "line of 80 MB"]


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_bad_data_ends_in_an_answer_with_every_row_counted(bad: BadFile, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = bad.write(tmp_path / "in")
    result = check(path, *bad.options, "--output", str(tmp_path / "out"), "--json")
    assert result.exit_code == bad.exit_code, result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert [part for part in bad.parts if part not in result.output] == []
    if bad.exit_code == 2:
        assert result.stdout == ""
        assert "  Fix: " in result.stderr
        assert list((tmp_path / "out").glob("*")) == []
        return
    report = json.loads(result.stdout)
    assert report["verdict"] == ("accepted" if bad.exit_code == 0 else "rejected")
    assert (report["n_kept_rows"], report["n_quarantined_rows"]) == bad.counts
    assert report["n_rows"] == sum(bad.counts)
    quarantine = (tmp_path / "out" / "quarantine.jsonl").read_text("utf-8").split("\n")[:-1]
    assert len(quarantine) == report["n_quarantined_rows"]
    assert all(json.loads(line)["reason"] for line in quarantine)


@pytest.mark.parametrize("bad", SMALL_FILES, ids=lambda bad: bad.name)
def test_bad_data_is_answered_in_words_too(
    bad: BadFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a long path folds the table's other cells
    (tmp_path / "in").mkdir()
    path = bad.write(tmp_path / "in")
    result = check(path, *bad.options, "--output", str(tmp_path / "out"))
    assert result.exit_code == bad.exit_code, result.output
    assert "Traceback" not in result.output
    rule_ids = [part for part in bad.parts if part.islower() and "_" in part]
    assert [part for part in rule_ids if part not in result.output] == []


@pytest.mark.parametrize("name", ["cut mid-line", "no UTF-8", "numbers for content", "ragged CSV"])
def test_repaired_copy_of_bad_data_passes(name: str, tmp_path: Path) -> None:
    [bad] = [bad for bad in BAD_FILES if bad.name == name]
    out = tmp_path / "fixed.jsonl"
    assert check(bad.write(tmp_path), "--only", "rows", "--fix", str(out)).exit_code == 0
    again = json.loads(check(out, "--json").stdout)
    assert (again["verdict"], again["n_kept_rows"], again["n_rows"]) == ("accepted", 40, 40)


def test_pandera_switched_off_refuses_to_check(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    code = "from flows.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", str(path), "--only", "rows"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PANDERA_VALIDATION_ENABLED": "False"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "environment variable PANDERA_VALIDATION_ENABLED" in done.stderr
    assert "Traceback" not in done.stderr
