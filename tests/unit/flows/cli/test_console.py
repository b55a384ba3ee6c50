"""Standard streams that a caller has closed, or sends to a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.console import EXIT_FAILED
from tests.support.toy import ordinary_rows, write_jsonl


def run_with_output(redirection: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Check ten rows with standard output redirected as a shell does it."""
    rows = write_jsonl(tmp_path / "rows.jsonl", ordinary_rows(10))
    program = "from flows.cli.main import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "check",
        str(rows),
        "--only",
        "rows",
        "--output",
        "out",
    ]
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_on_a_full_disk_is_named_and_not_the_work_directory(tmp_path: Path) -> None:
    done = run_with_output("> /dev/full", tmp_path)
    assert done.returncode == EXIT_FAILED
    assert "standard output" in done.stderr
    assert "SFT_HOME" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirection", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_result(redirection: str, tmp_path: Path) -> None:
    done = run_with_output(redirection, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.json").is_file()
