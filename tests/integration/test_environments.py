"""A run where its makers never ran it: any user id, no home, no locale, odd paths, a checkout to read."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ipv6_only, parts
from tests.support.disks import shown_to_all
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = [pytest.mark.integration, parts.ROOT.mark]

REPOSITORY = Path(__file__).parents[2]
USER = 54321
"""In no list of users, as in a container that is started with an id of its own."""
PROGRAM = "from flows.cli.main import main; main()"
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user may enter; pytest's own belong to root alone."""
    root = Path(tempfile.mkdtemp(prefix="sft-flow "))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def sft_flow(folder: Path) -> Iterator[Command]:
    """The command as an unprivileged user in an empty environment; all it may write is SFT_HOME.

    Where namespaces are allowed, its machine has no IPv4.
    """
    home, project = folder / "wörk folder", folder / "pröject x"
    home.mkdir()
    shutil.chown(home, USER, USER)
    project.mkdir()
    packages = Path(site.getsitepackages()[0]).relative_to(sys.prefix)
    machine = ipv6_only.COMMAND if ipv6_only.is_allowed() else ()
    as_user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    base = Path(sys._base_executable).resolve().relative_to(sys.base_prefix)  # type: ignore[attr-defined]
    with (
        shown_to_all(REPOSITORY) as checkout,
        shown_to_all(Path(sys.prefix)) as environment,
        shown_to_all(Path(sys.base_prefix)) as python,
    ):
        variables = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C",
            "TERM": "dumb",
            "SFT_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",  # no test asks beyond this machine
            # As in a pod of a PyTorchJob, or below torchrun: the other process never comes.
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": "29511",
            "ACCELERATE_MIXED_PRECISION": "fp16",
            "PYTHONPATH": f"{checkout}:{environment / packages}",
            "LD_LIBRARY_PATH": str(python / "lib"),
        }
        yield lambda *arguments: subprocess.run(
            [*machine, *as_user, python / base, "-P", "-c", PROGRAM, *arguments],
            cwd=project,
            env=variables,
            umask=0o077,
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            check=False,
        )


def make_project(project: Path) -> None:
    make_toy_model(project / "a modél")
    write_jsonl(project / "råw data.jsonl", toy_rows(160))
    settings: dict[str, Any] = {
        "data": {"source": {"source": "råw data.jsonl"}},
        "split": {"eval_fraction": 0.15},
        "model": {"source": "./a modél"},
        "quality": {"max_length_tokens": 256},
        "training": {"max_steps": 5, "learning_rate": 0.01, "packing_length_tokens": 128},
        "evaluation": {"n_generation_rows": 2, "max_new_tokens": 4},
        "gates": {"min_eval_rows": 10, "mode": "dry_run"},
        "registry": {"name": "toy"},
    }
    (project / "sft-flow.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    for path in project.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_run_needs_no_home_no_locale_and_no_user_name(folder: Path, sft_flow: Command) -> None:
    make_project(folder / "pröject x")
    found = sft_flow("run", "-c", "sft-flow.yaml", "--json")
    assert found.returncode == 0, found.stdout + found.stderr
    assert json.loads(found.stdout)["registry"]["version"] == 1
    assert "Traceback" not in found.stderr
    home = folder / "wörk folder"
    assert {path.stat().st_uid for path in home.rglob("*")} == {USER}
    assert not [path for path in home.rglob("*") if path.stat().st_mode & 0o077]

    examined = sft_flow("doctor", "-c", "sft-flow.yaml", "--json")
    findings = json.loads(examined.stdout)
    problems = [one for one in findings if one["health"] == "problem"]
    assert problems == []
