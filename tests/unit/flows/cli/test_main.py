from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import flows.cli.status as status
from flows.cli.console import GuardedGroup, describe, plain_table
from flows.cli.main import main
from flows.services.signals import Terminated
from schemas.errors import DataRejected, SftFlowError, TrainingError, TrainingInterrupted
from schemas.records.stages import Stage
from tasks.engine.journal import StageEntry, append_entry
from tests.support.toy import ordinary_rows, write_jsonl

COMMANDS = ("init", "run", "plan", "check", "status", "report", "doctor")
REPORT: dict[str, Any] = {"decision": "promote", "registry": {"version": 2}}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def fail_with(error: BaseException) -> Result:
    @click.group(cls=GuardedGroup)
    def group() -> None:
        pass

    @group.command()
    def go() -> None:
        raise error

    return CliRunner().invoke(group, ["go"])


@pytest.mark.parametrize("command", [(), *[(name,) for name in COMMANDS]])
def test_help_is_there_for_every_command(command: tuple[str, ...]) -> None:
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.output


def test_help_imports_no_heavy_library() -> None:
    program = (
        "import sys\nfrom flows.cli.main import main\n"
        "try:\n    main(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'prefect', 'torch', 'transformers', 'trl', 'mlflow', 'datasets', 'pandas',\n"
        "         'polars', 'great_expectations', 'pandera'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run", "--nonsense"),
        ("run", "--refresh", "nonsense"),
        ("check",),
        ("run", "-c", "missing.yaml"),
        ("run", "--set", "training.learning_rate=-1"),
        ("plan", "--set", "learnin_rate=1"),
        ("check", "x.jsonl", "--set", "seed"),
        ("status", "--set", "registry.name=a/b"),
        ("report",),
    ],
)
def test_usage_and_configuration_errors_exit_2_without_traceback(
    arguments: tuple[str, ...],
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_configuration_error_says_where_expected_got_and_fix() -> None:
    text = invoke("run", "--set", "training.learning_rate=-1").stderr
    for part in ("Where: --set", "Expected: greater than 0", "Got: -1", "Fix: "):
        assert part in text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataRejected("no", fix="mend"), 1),
        (TrainingError("no", fix="mend"), 3),
        (RuntimeError("odd\nsecond line"), 3),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (TrainingInterrupted("stopped"), 130),
    ],
)
def test_exit_codes_of_errors(error: BaseException, code: int) -> None:
    result = fail_with(error)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr


def test_interrupted_run_says_that_the_next_one_picks_up() -> None:
    assert fail_with(KeyboardInterrupt()).stderr.count("\n") == 1
    assert "next run resumes" in fail_with(KeyboardInterrupt()).stderr


def test_unknown_error_is_one_line_and_names_debug() -> None:
    assert describe(RuntimeError("odd\nsecond line")) == (
        "RuntimeError: odd  (add --debug for the traceback)"
    )
    assert describe(RuntimeError()).startswith("RuntimeError: no message")
    assert describe(SftFlowError("a", fix="b")) == "SftFlowError: a\n  Fix: b"


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_the_traceback_before_or_after_the_command(before: bool) -> None:
    arguments = ["report"]
    arguments.insert(0 if before else 1, "--debug")
    assert "Traceback" in invoke(*arguments).stderr


def test_plain_table_lines_columns_up_and_wraps_long_cells() -> None:
    assert plain_table(["a", "long name"], [["1", "x"], ["22", "y"]], 60) == [
        "a   long name",
        "--  ---------",
        "1   x",
        "22  y",
    ]
    lines = plain_table(["a", "b"], [["one two three four five six seven", "x"]], 20)
    assert max(len(line) for line in lines) <= 20
    assert " ".join(line.split("  ")[0].strip() for line in lines[2:]) == (
        "one two three four five six seven"
    )


def test_plain_table_folds_no_identifier() -> None:
    cells = ["roles_not_alternating", "some words that may be wrapped", "error"]
    lines = plain_table(["rule", "what it says", "severity"], [cells], 50)
    assert max(len(line) for line in lines) <= 50
    assert lines[2].startswith("roles_not_alternating  ")


def test_plain_table_stacks_rows_where_columns_find_no_room() -> None:
    rows = [["roles_not_alternating", "a few words"], ["content_empty", ""]]
    assert plain_table(["rule", "what it says"], rows, 24) == [
        "rule: roles_not_alternating",
        "what it says: a few words",
        "",
        "rule: content_empty",
    ]


def write_report(home: Path) -> Path:
    folder = home / "stages" / "publish_report" / "abc"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    (folder / "report.html").write_text("<html>", encoding="utf-8")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    return folder


def test_report_prints_the_path_of_the_page(work_folder: Path) -> None:
    folder = write_report(work_folder)
    result = invoke("report")
    assert (result.exit_code, result.stdout) == (0, f"{folder / 'report.html'}\n")


def test_report_json_is_one_document(work_folder: Path) -> None:
    folder = write_report(work_folder)
    document = json.loads(invoke("report", "--json").stdout)
    assert document["path"] == str(folder / "report.html")
    assert document["registry"]["version"] == 2


def test_damaged_report_is_a_clear_error(work_folder: Path) -> None:
    (write_report(work_folder) / "report.json").write_text("{", encoding="utf-8")
    result = invoke("report")
    assert (result.exit_code, "damaged" in result.stderr) == (2, True)


def test_status_of_an_empty_work_directory_makes_nothing(work_folder: Path) -> None:
    result = invoke("status", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["flow_run_id"], document["champion_version"]) == (None, None)
    assert not work_folder.exists()


def test_status_shows_the_stages_of_the_last_run(work_folder: Path) -> None:
    write_report(work_folder)
    append_entry("run-1", StageEntry(stage="decide", event="MISS", detail="first run"))
    text = invoke("status").stdout
    assert "Last run:       run-1" in text
    assert "MISS  decide  first run" in text
    assert "publish_report" in text


def test_newest_output_skips_unfinished_ones(work_folder: Path) -> None:
    unfinished = work_folder / "stages" / "decide" / ".tmp-1"
    unfinished.mkdir(parents=True)
    (unfinished / "manifest.json").touch()
    assert status.newest_output(Stage.DECIDE) is None


def test_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ordinary_rows(40))
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from flows.cli.main import main; main()", "check", str(path)]
    output = ["--only", "rows", "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, *output], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 141
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["*.jsonl", "--fix", "rows.jsonl"],
        ["rows.jsonl", "--fix", "rows.jsonl"],
        [".", "--output", "."],
        ["rows.jsonl", "--fix", "out/quarantine.jsonl", "--output", "out"],
        [""],
    ],
)
def test_check_never_writes_over_what_it_reads(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_jsonl(tmp_path / "rows.jsonl", ordinary_rows(12))
    before = path.read_bytes()
    assert invoke("check", *arguments, "--only", "rows").exit_code == 2
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]


def test_check_takes_every_configured_source_or_one_of_them_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ordinary_rows(24)
    write_jsonl(tmp_path / "a.jsonl", rows[:12])
    write_jsonl(tmp_path / "b.jsonl", [{"q": r["prompt"], "a": r["completion"]} for r in rows[12:]])
    config = tmp_path / "config.yaml"
    config.write_text(
        "data:\n  sources:\n    old: {source: a.jsonl}\n"
        "    new: {source: b.jsonl, columns: {prompt: q, completion: a}}\n"
    )
    arguments = ("check", "-c", str(config), "--only", "rows", "--json")
    found = json.loads(invoke(*arguments).stdout)
    assert (found["source"], found["n_kept_rows"]) == ("new=b.jsonl, old=a.jsonl", 24)
    one = json.loads(invoke(*arguments, "new").stdout)
    assert (one["source"], one["n_kept_rows"]) == ("b.jsonl", 12)
    assert invoke(*arguments, "--fix", "a.jsonl").exit_code == 2
    (tmp_path / "a.jsonl").unlink()
    missing = invoke(*arguments)
    assert missing.exit_code == 2
    assert "data.sources.old.source" in missing.stderr
