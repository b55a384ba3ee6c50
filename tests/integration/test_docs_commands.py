"""The commands of the pages on promoting and serving run as they stand, on a toy model."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import flows.cli.export as export_command
import flows.cli.promote as registry_commands
from flows.cli.main import main
from flows.train_sft import train_sft
from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from tasks.engine.cache import locate
from tasks.registry.store import connect
from tasks.release import promotion
from tests.integration.conftest import ToyRun
from tests.support.documentation import documented
from tests.support.evidence import CONFIG, make_evidence, register

pytestmark = pytest.mark.integration

PAGES = ("README.md", "docs/promoting.md", "docs/serving.md", "docs/tutorial.md")
HANDLED = ("status", "promote", "rollback", "export", "history")
NAME = RegistryConfig().name


@pytest.fixture
def store(
    tmp_path: Path,
    empty_mlflow_db: Path,
    prefect_server: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two versions of the demo's name: the second is champion, the first was before."""
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_mlflow_db, tmp_path)
    settings = CONFIG.model_dump(mode="json")
    settings["registry"]["name"] = NAME
    config = RunConfig.model_validate(settings)
    for seed in range(2):
        register(make_evidence(tmp_path, seed=seed), config)
    client = connect()
    for alias, version in (("previous", 1), ("champion", 2), ("challenger", 2)):
        client.set_registered_model_alias(NAME, alias, str(version))
    monkeypatch.setattr(promotion, "check_reload", lambda *_: None)
    for module in (registry_commands, export_command):
        monkeypatch.setattr(module, "quiet_libraries", lambda: None)


def test_every_command_on_registered_models_runs(
    store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    commands = dict.fromkeys(line for page in PAGES for line in documented(page, *HANDLED))
    assert {command.split()[1] for command in commands} == set(HANDLED)
    for command in commands:
        for name in ("building-faq", "support-answers"):
            command = command.replace(name, NAME)
        words = shlex.split(command)
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, (command, result.output)
    assert [Path(address).name for address in opened] == [f"{NAME}.html"] * 2


@pytest.mark.core
def test_report_of_the_tutorial_opens(toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", opened.append)
    report = train_sft(toy_run.config)  # the last run, whatever ran before
    (command,) = documented("docs/tutorial.md", "report")
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert opened == [locate(report, "report.html").as_uri()]
