"""What a user may get wrong: one clear message each, the right exit code, nothing lost."""

from __future__ import annotations

import importlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli.main import main
from schemas.errors import (
    ConfigError,
    DataRejected,
    DataSourceError,
    ModelSourceError,
    ServiceUnreachable,
    SftFlowError,
    WorkDirectoryError,
)
from tests.support.toy import make_toy_model, toy_rows, write_jsonl

pytestmark = pytest.mark.integration

CLOSED_PORT = "http://127.0.0.1:9"
BEFORE_MODEL = ("load_dataset",)


@dataclass(frozen=True)
class Mistake:
    """One thing done wrong: what it needs beforehand, and how the run should end."""

    name: str
    error: type[SftFlowError]
    names: tuple[str, ...]
    """Parts of the message that name the problem."""
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], object] = lambda folder: None
    is_hub_online: bool = False
    kept_stages: tuple[str, ...] = ()
    """Stages whose output is still there afterwards."""
    kept_files: tuple[str, ...] = ()
    """Patterns of other files in the work directory that are."""


def write_unusable_rows(folder: Path) -> None:
    make_model(folder)
    write_jsonl(folder / "rows.jsonl", [{"prompt": "What?", "completion": ""}] * 5)


def make_model(folder: Path) -> None:
    make_toy_model(folder / "model")


def make_model_without_tokenizer(folder: Path) -> None:
    make_toy_model(folder / "model")
    for path in (folder / "model").glob("tokenizer*"):
        path.unlink()


MISTAKES = (
    Mistake(
        "missing file",
        DataSourceError,
        ("no data called", "absent.jsonl"),
        {"data.source.source": "absent.jsonl"},
    ),
    Mistake(
        "empty file",
        DataSourceError,
        ("rows.jsonl",),
        prepare=lambda folder: (folder / "rows.jsonl").write_text("", encoding="utf-8"),
    ),
    Mistake(
        "no usable row",
        DataRejected,
        ("5 of 5 rows", "rejected/check_schema/"),
        prepare=write_unusable_rows,
        kept_stages=("load_dataset", "prepare_template"),
        kept_files=("rejected/check_schema/*/*.jsonl",),
    ),
    Mistake("unknown key", ConfigError, ("learnin_rate",), {"training.learnin_rate": "1"}),
    Mistake(
        "negative learning rate",
        ConfigError,
        ("training.learning_rate", "Got: -1"),
        {"training.learning_rate": "-1"},
    ),
    Mistake(
        "unknown model",
        ModelSourceError,
        ("nosuch/model",),
        {"model.source": "nosuch/model"},
        kept_stages=BEFORE_MODEL,
    ),
    Mistake(
        "model without tokenizer",
        ModelSourceError,
        ("the model has no tokenizer",),
        prepare=make_model_without_tokenizer,
        kept_stages=BEFORE_MODEL,
    ),
    Mistake(
        "hub unreachable",
        ServiceUnreachable,
        ("the Hugging Face Hub cannot be reached", "owner/model", "Connection refused"),
        {"model.source": "owner/model"},
        is_hub_online=True,
        kept_stages=BEFORE_MODEL,
    ),
    Mistake(
        "MLflow unreachable",
        ServiceUnreachable,
        ("the MLflow server cannot be reached", CLOSED_PORT),
        environment={"MLFLOW_TRACKING_URI": CLOSED_PORT},
    ),
    Mistake("invalid registered name", ConfigError, ("registry.name",), {"registry.name": "a/b"}),
    Mistake(
        "work directory not writable",
        WorkDirectoryError,
        ("the work directory cannot be written",),
        environment={"SFT_HOME": "rows.jsonl/home"},
    ),
    Mistake(
        "no space",
        WorkDirectoryError,
        ("nearly full",),
        environment={"SFT_MIN_FREE_BYTES": str(2**60)},
    ),
    Mistake(
        "no evaluation row",
        ConfigError,
        ("the split would leave no evaluation row",),
        {"split.eval_fraction": "0.0001"},
        prepare=make_model,
        kept_stages=("load_dataset", "prepare_template", "check_schema"),
    ),
)
EXIT_CODES = {DataRejected: 1, ServiceUnreachable: 3}
"""The others are the user's to fix: 2."""


@pytest.fixture
def run_log(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Collect what Prefect prints; its handler keeps the stream it found at import."""
    from prefect.logging.handlers import PrefectConsoleHandler

    stream = io.StringIO()
    handler = PrefectConsoleHandler(stream=stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    return stream


@pytest.fixture
def folder(tmp_path: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with good rows, on retries that do not wait."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_LOCAL_STORAGE_PATH", str(work_folder / "results"))
    write_jsonl(tmp_path / "rows.jsonl", toy_rows(30))
    for name in ("check_environment", "prepare_template"):
        task = getattr(importlib.import_module(f"tasks.{name}"), name)
        monkeypatch.setattr(task, "retry_delay_seconds", [0.01] * 3)
    return tmp_path


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_mistake_ends_in_one_clear_message(
    mistake: Mistake, folder: Path, run_log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    mistake.prepare(folder)
    for name, value in mistake.environment.items():
        monkeypatch.setenv(name, value)
    if mistake.is_hub_online:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", CLOSED_PORT)
    settings = {"data.source.source": "rows.jsonl", "model.source": "model"} | mistake.settings
    arguments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(main, ["run", *arguments])

    heard = run_log.getvalue() + result.stderr
    assert result.exit_code == EXIT_CODES.get(mistake.error, 2), heard
    assert result.stdout == ""
    assert "Traceback" not in heard
    assert heard.count(f"{mistake.error.__name__}: ") == 1, heard
    assert heard.count("  Fix: ") == 1
    message = result.stderr[result.stderr.index(f"{mistake.error.__name__}: ") :]
    assert [part for part in mistake.names if part not in message] == []
    home = folder / "home"
    for stage in mistake.kept_stages:
        assert list(home.glob(f"stages/{stage}/*/manifest.json")), stage
    for pattern in mistake.kept_files:
        assert list(home.glob(pattern)), pattern
