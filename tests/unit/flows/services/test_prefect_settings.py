from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.services.prefect_settings import settings_error

PROFILE = """active = "mine"
[profiles.mine]
PREFECT_API_REQUEST_TIMEOUT = "soon"
"""


@pytest.mark.parametrize(
    ("command", "variables", "where"),
    [
        ("doctor", {"PREFECT_LOGGING_LEVEL": "LOUD"}, "PREFECT_LOGGING_LEVEL"),
        (
            "notify --list",
            {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "abc"},
            "PREFECT_CLIENT_RETRY_EXTRA_CODES",
        ),
        ("notify --list", {}, "request_timeout in the profile"),
    ],
)
def test_setting_that_prefect_does_not_accept_is_named(
    command: str, variables: dict[str, str], where: str, tmp_path: Path
) -> None:
    (tmp_path / "profiles.toml").write_text(PROFILE if not variables else "", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli.main import main; main()", *command.split()],
        env={**os.environ, "PREFECT_HOME": str(tmp_path), "SFT_HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    shown = " ".join((done.stdout + done.stderr).split())
    assert where in shown
    assert "unset it" in shown
    assert "ValidationError" not in shown
    assert "pip install" not in shown


def test_other_errors_are_left_alone() -> None:
    assert settings_error(ValueError("x")) is None
