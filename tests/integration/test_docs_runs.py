"""The commands of README and tutorial that train run as they stand, with a toy model for the real one."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from flows.cli import plan, status
from flows.cli import run as run_command
from flows.cli.main import main
from tests.integration.conftest import N_ROWS, toy_config
from tests.support.documentation import ROOT, blocks, documented
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

REFUSED = 1
"""A toy learns little; what counts here is that the run came to a decision."""
MAX_CHARACTERS = 400
MAX_TOKENS = 512


@pytest.fixture
def folder(
    tmp_path: Path, prefect_server: None, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty folder with a toy model beside it."""
    for command in (plan, run_command, status):
        monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    make_toy_model(tmp_path / "model")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def write_configuration(folder: Path, page: str, name: str) -> dict[str, Any]:
    """Write a configuration of a page, with the model and the small settings of the toy."""
    text = (ROOT / page).read_text(encoding="utf-8")
    block = next(one for one in blocks(text, "yaml") if one.startswith(f"# {name}"))
    shown: dict[str, Any] = yaml.safe_load(block)
    toy = toy_config(folder.parent / "model", folder / "rows.jsonl").model_dump(mode="json")
    for part in ("quality", "split", "gates"):
        shown[part] = toy[part]
    shown["quality"]["max_length_tokens"] = MAX_TOKENS
    shown["model"]["source"] = toy["model"]["source"]
    shown["training"] = toy["training"] | shown["training"]
    shown["evaluation"] = toy["evaluation"] | shown.get("evaluation", {})
    (folder / name).write_text(yaml.safe_dump(shown), encoding="utf-8")
    return shown


def keep_short_rows(path: Path) -> None:
    """Leave what fits the toy, whose tokens are single bytes."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            row for row in rows if sum(len(cell) for cell in row) < MAX_CHARACTERS
        )


def run(line: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
    return done.exit_code, done.output


def write_project(page: str) -> None:
    """Run the command of a page that writes the first configuration."""
    (line,) = documented(page, "init")
    code, output = run(line)
    assert code == 0, output


def test_commands_of_the_readme_run_on_own_data(folder: Path) -> None:
    (folder / "data").mkdir()
    write_jsonl(folder / "data" / "train.jsonl", toy_rows(N_ROWS))
    write_project("README.md")
    write_configuration(folder, "README.md", "sft-flow.yaml")
    found = [line for line in documented("README.md", "plan", "run") if "sft-flow.yaml" in line]
    assert [line.split()[1] for line in found] == ["plan", "run"]
    for line in found:
        code, output = run(line)
        assert code in (0, REFUSED), output
        assert "support-answers" in output or "train_model" in output


def test_first_model_of_the_tutorial_is_trained_and_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    copy = next(line for line in blocks(page, "sh")[0].splitlines() if line.startswith("python -c"))
    exec(shlex.split(copy)[2])  # noqa: S102 - of our page: copies the file
    keep_short_rows(folder / "faq-en.csv")
    write_project("docs/tutorial.md")
    write_configuration(folder, "docs/tutorial.md", "sft-flow.yaml")
    found = documented("docs/tutorial.md", "run", "report", "status")
    assert [line.split()[1] for line in found] == ["run", "report", "status"]
    codes = [run(line) for line in found]
    assert [code for code, _ in codes][1:] == [0, 0], codes
    assert codes[0][0] in (0, REFUSED), codes[0][1]
    assert "building-faq" in codes[2][1]
    assert [Path(address).name for address in opened] == ["report.html"]
