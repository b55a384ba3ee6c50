from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import polars
import pytest
from click.testing import CliRunner, Result
from prefect.settings import PREFECT_API_URL, temporary_settings

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


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


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
        (DataRejected("no", fix="correct it"), 1),
        (TrainingError("no", fix="correct it"), 3),
        (RuntimeError("odd\nsecond line"), 3),
        (MemoryError(), 3),
        (polars.exceptions.PanicException("index out of bounds"), 3),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (TrainingInterrupted("stopped"), 130),
        (caused(OSError("commit failed"), KeyboardInterrupt()), 130),
        (caused(OSError("commit failed"), Terminated()), 143),
    ],
)
def test_exit_codes_of_errors(error: BaseException, code: int) -> None:
    result = fail_with(error)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr


def test_memory_that_ran_out_is_named() -> None:
    assert "memory ran out" in fail_with(MemoryError()).stderr


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


@pytest.mark.loopback
@pytest.mark.parametrize(
    "arguments",
    [
        "run",
        "sweep --search learning_rate=1e-5..1e-3 --set split.validation_fraction=0.1",
        "promote toy",
        "rollback toy",
        "up",
        "notify --list",
    ],
)
def test_server_that_is_gone_is_the_same_error_everywhere(arguments: str) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api/"}):
        done = CliRunner().invoke(main, arguments.split())
    assert done.exit_code == 3, done.output
    assert done.stderr.strip().splitlines() == [
        "ServiceUnreachable: the Prefect server does not answer",
        "  Where: http://127.0.0.1:9/api",
        "  Expected: a running server (PREFECT_API_URL or the Prefect profile is set)   "
        "Got: [Errno 111] Connection refused",
        "  Fix: start it (`sft-flow up --prefect-port 9`); or unset PREFECT_API_URL (`prefect config "
        "unset PREFECT_API_URL` if it is in the profile) to use a server that is started here",
    ]


ESCAPE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e"
"""Sets a terminal's title, clears it, colours it and turns its text around."""


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_output_obeys_no_escape_code_of_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows: list[dict[str, Any]] = [{**row, f"column {ESCAPE}": ESCAPE} for row in ordinary_rows(40)]
    rows += [{"messages": [{"role": f"role {ESCAPE}", "content": ESCAPE}]}] * 20
    write_jsonl(tmp_path / f"rows {ESCAPE}.jsonl", rows)
    result = invoke("check", f"rows {ESCAPE}.jsonl", *options)
    assert result.exit_code == 1, result.output
    assert "\\u001b]0;title" in result.stdout
    for character in set(ESCAPE) - set("]0;title[2J31m"):
        assert character not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", f"{ESCAPE}.jsonl"),
        ("check", "rows.jsonl", "--set", f"{ESCAPE}=1"),
        ("plan", "--set", f"model.source={ESCAPE}"),
        ("plan", "-c", f"{ESCAPE}.yaml"),
        ("run", "--refresh", ESCAPE),
        ("run", f"--{ESCAPE}"),
        (ESCAPE,),
        ("status", ESCAPE),
    ],
)
def test_error_obeys_no_escape_code_of_a_name(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code in (1, 2, 3)
    assert (
        "\\u001b" in result.output or "\\x1b" in result.output
    )  # click writes names as Python does
    for character in set(ESCAPE) - set("]0;title[2J31m"):
        assert character not in result.output


def test_json_with_written_out_characters_is_the_same_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from flows.cli.console import print_json

    document = {f"{ESCAPE}\\": [f"\\{ESCAPE}", "\U000e0041\udcff", 'a"\n\t\xe4']}
    print_json(document)
    printed = capsys.readouterr().out
    assert json.loads(printed) == document
    assert not set("\x1b\x9b\u202e\U000e0041\udcff") & set(printed)
