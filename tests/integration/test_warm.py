"""A forked process of the tests ends as the real command does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.warm import MODULES, WarmProcesses

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("module", MODULES)
def test_forked_process_fails_as_the_real_one(
    module: str, warm_processes: WarmProcesses, tmp_path: Path
) -> None:
    command = [sys.executable, "-P", "-m", module, str(tmp_path / "missing.json")]
    forked, real = (
        program.run(command, capture_output=True, text=True, check=False)
        for program in (warm_processes, subprocess)
    )
    assert forked.returncode == real.returncode != 0
    assert forked.stdout == real.stdout
    assert "missing.json" in real.stderr
    assert forked.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]


def test_other_commands_are_started_as_they_are(warm_processes: WarmProcesses) -> None:
    done = warm_processes.run(
        [sys.executable, "-c", "import sys; sys.exit('torch' in sys.modules)"]
    )
    assert done.returncode == 0
