from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import flows.cli.clean as command
from flows.cli.main import main
from tests.support.documentation import documented
from tests.support.outputs import store, stored

PAGES = ("README.md", "docs/operate.md")


@pytest.fixture(autouse=True)
def _quiet(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)


def run(*arguments: str, keys: str | None = None) -> Result:
    return CliRunner().invoke(main, ["clean", *arguments], input=keys)


def test_old_outputs_are_removed_and_counted(work_folder: Path) -> None:
    old, new = store("decide", days=31, seed=1), store("decide", days=29, seed=2)
    done = run("--older-than", "30d", "--yes")
    assert done.exit_code == 0, done.output
    assert (stored(old), stored(new)) == (False, True)
    assert old.folder in done.output
    assert f"freed in {work_folder}" in done.output


def test_size_in_json(work_folder: Path) -> None:
    made = [store("decide", 1_000_000, days, seed=days) for days in (3, 2, 1)]
    done = run("--max-size", "2.5MB", "--yes", "--json")
    document = json.loads(done.stdout)
    assert [one["path"] for one in document["removed"]] == [made[0].folder]
    assert document["removed"][0]["reason"] == "size"
    assert document["n_freed_bytes"] == document["removed"][0]["n_bytes"] > 1_000_000
    assert document["n_kept_bytes"] > 2_000_000
    assert [stored(one) for one in made] == [False, True, True]


def test_dry_run_needs_no_yes_and_removes_nothing() -> None:
    old = store("decide", days=31)
    done = run("--older-than", "4w", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "would be freed" in done.output
    assert stored(old)


def test_limits_of_the_configuration_count() -> None:
    old = store("decide", days=2)
    assert "no limit is set" in run("--yes").output
    assert stored(old)
    assert run("--yes", "--set", "storage.max_age_days=1").exit_code == 0
    assert not stored(old)


def test_without_a_terminal_yes_is_required() -> None:
    old = store("decide", days=31)
    done = run("--older-than", "30d")
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert stored(old)


@pytest.mark.parametrize(("answer", "is_kept"), [("n\n", True), ("y\n", False)])
def test_on_a_terminal_it_asks(answer: str, is_kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    old = store("decide", days=31)

    class Terminal:
        def isatty(self) -> bool:
            return True

    class Sys:
        stdin = Terminal()

    monkeypatch.setattr(command, "sys", Sys())
    run("--older-than", "30d", keys=answer)
    assert stored(old) is is_kept


@pytest.mark.parametrize("text", ["30", "d", "0d", "-1d", "30 parsecs", "1e3d", ""])
@pytest.mark.parametrize("option", ["--older-than", "--max-size"])
def test_a_quantity_without_a_unit_is_wrong_usage(option: str, text: str) -> None:
    done = run(option, text, "--yes")
    assert done.exit_code == 2
    assert "is not a number above 0 with a unit" in done.stderr


def test_documented_commands_run() -> None:
    commands = [line for page in PAGES for line in documented(page, "clean")]
    assert len(commands) == 3
    for line_of_page in commands:
        assert run(*shlex.split(line_of_page)[2:]).exit_code == 0, line_of_page


@pytest.mark.parametrize(("text", "days"), [("12h", 0.5), ("30d", 30), ("2 W", 14), ("1.5d", 1.5)])
def test_ages_are_read_in_days(text: str, days: float) -> None:
    read = command.read_quantity(command.DAYS, "30d")
    assert read(None, None, text) == pytest.approx(days)
    assert read(None, None, None) is None
