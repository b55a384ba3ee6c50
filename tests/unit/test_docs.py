"""The pages: every command runs, every example is what it says, every key is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from flows.cli.main import main
from schemas.config.file import load_config
from schemas.config.run import RunConfig
from schemas.config.sweep import SweepConfig, load_sweep
from schemas.metrics import ANSWER_METRICS
from schemas.rows.row import RowFormat, SourceRow
from schemas.rule_ids import RowRule, RuleResult, SetRule
from schemas.rules.check_rows import check_rows
from schemas.rules.profile import DataProfile
from schemas.rules.row_rules import row_severities
from tasks.dataset.check_file import CheckReport
from tests.support.documentation import ROOT, blocks, documented
from tests.support.toy import write_jsonl

GATE = (ROOT / "docs" / "data-gate.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOPICS = ("roof", "wall", "door", "window", "floor", "stair", "lift", "ramp", "drain", "beam")


def configuration(name: str) -> str:
    return next(block for block in blocks(GATE, "yaml") if block.startswith(f"# {name}"))


@pytest.fixture
def producer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A producer's folder, with the files that the commands name."""
    rows: list[dict[str, object]] = [
        {
            "prompt": f"How wide must a {topic} be in a public building?",
            "completion": f"By section {place} a {topic} takes {place + 80} centimetres of space.",
        }
        for place, topic in enumerate(TOPICS)
    ]
    cells = "".join(f"{row['prompt']},{row['completion']}\n" for row in rows)
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", rows)
    preferences: list[dict[str, object]] = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "Wide."} for row in rows
    ]
    write_jsonl(tmp_path / "data" / "preferences.jsonl", preferences)
    write_jsonl(tmp_path / "data" / "benchmark.jsonl", [{"question": "What is two and two?"}])
    (tmp_path / "data" / "questions.csv").write_text(f"question,answer\n{cells}", encoding="utf-8")
    (tmp_path / "data" / "export.csv").write_text(
        f"prompt,completion\n{cells.replace('public', 'façade of a public')}", encoding="cp1252"
    )
    (tmp_path / "gate.yaml").write_text(configuration("gate.yaml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    for command in documented("README.md", "init"):
        assert CliRunner().invoke(main, shlex.split(command)[1:]).exit_code == 0
    return tmp_path


def test_every_command_of_the_data_gate_runs(producer: Path) -> None:
    pages = ("README.md", "docs/data-gate.md")
    found = dict.fromkeys(line for page in pages for line in documented(page, "check"))
    assert len(found) >= 6
    for command in found:
        arguments = shlex.split(command.split(" > ")[0])[1:]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, (command, result.output)
        if " > " in command:
            json.loads(result.stdout)
    assert (producer / "fixed.jsonl").read_bytes().count(b"\n") == len(TOPICS)
    names = {path.name for path in (producer / "checked").iterdir()}
    assert names == {"report.json", "report.html", "quarantine.jsonl", "profile.json"}


def test_examples_of_formats_are_rows_without_fault() -> None:
    lines = "".join(blocks(GATE, "jsonl")).splitlines()
    rows = [SourceRow("x", number, json.loads(line)) for number, line in enumerate(lines, 1)]
    severities = row_severities({})
    checked = [row for source in rows for row in check_rows([source], severities)]
    assert [row.violations for row in checked] == [()] * len(rows)
    assert {row.format for row in checked} == set(RowFormat)


def test_configurations_are_taken(producer: Path) -> None:
    config = load_config(producer / "gate.yaml")
    assert config.quality.rules[SetRule.BOILERPLATE_FRACTION].severity == "off"
    for block in blocks(GATE, "yaml"):
        (producer / "some.yaml").write_text(block, encoding="utf-8")
        load_config(producer / "some.yaml")


@pytest.mark.parametrize("model", [CheckReport, RuleResult, DataProfile])
def test_report_keys_are_documented_in_their_order(model: type[BaseModel]) -> None:
    tables = re.findall(
        r"^\| key \| type \| meaning \|\n\|[-|]+\n((?:\|.*\n)+)", GATE, re.MULTILINE
    )
    documented = [re.findall(r"^\| `(\w+)`", table, re.MULTILINE) for table in tables]
    assert list(model.model_fields) in documented


def test_readme_counts_the_rules() -> None:
    assert f"[{len(RowRule) + len(SetRule)} rules](docs/data-rules.md)" in README
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"every row against {len(RowRule)} rules and the set against {len(SetRule)}" in changes


@pytest.mark.parametrize("page", ["training.md", "promoting.md"])
def test_configurations_of_a_page_are_taken(page: str, tmp_path: Path) -> None:
    found = blocks((ROOT / "docs" / page).read_text(encoding="utf-8"), "yaml")
    assert found
    for block in found:
        (tmp_path / "some.yaml").write_text(block, encoding="utf-8")
        if block.startswith("# sweep.yaml"):
            assert load_sweep(tmp_path / "some.yaml", (), {})[0].search
        else:
            load_config(tmp_path / "some.yaml")


def test_sweep_command_of_the_training_page_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    command = next(line for line in page.splitlines() if line.startswith("sft-flow sweep"))
    monkeypatch.chdir(tmp_path)
    validated = "training: {eval_steps: 5}\nsplit: {validation_fraction: 0.1}\n"
    (tmp_path / "config.yaml").write_text(validated, encoding="utf-8")
    asked: list[SweepConfig] = []

    def remember(_config: RunConfig, sweep: SweepConfig) -> None:
        asked.append(sweep)
        raise KeyboardInterrupt  # before anything is trained

    monkeypatch.setattr("flows.cli.sweep._run_flow", remember)
    CliRunner().invoke(main, shlex.split(command)[1:])
    assert set(asked[0].search) == {"learning_rate", "lora.r"}
    assert asked[0].trials == 12


def test_every_answer_metric_is_on_the_page() -> None:
    page = (ROOT / "docs" / "promoting.md").read_text(encoding="utf-8")
    for metric in ANSWER_METRICS.values():
        line = f"| `{metric.id}` | {metric.unit} | {metric.direction} | {metric.meaning} |"
        assert line in page


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_every_command_of_ours_exists_with_its_options(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line.split(" > ")[0], comments=True)
            if words[:1] == ["sft-flow"]:
                context = click.Context(main)
                command = main.get_command(context, words[1])
                assert command, line
                # Parsed as on the command line, and not run.
                command.make_context(words[1], words[2:])


def test_tutorial_goes_from_a_refused_file_to_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (shown,) = blocks(page, "yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    exec(shlex.split(lines[0])[2])  # noqa: S102 - python -c "…" of our page: copies the file
    expected = {"check faq-en.csv": 1, "init": 0, "check -c sft-flow.yaml": 0, "plan": 0}
    for command, code in expected.items():
        (line,) = [line for line in lines if line.startswith(f"sft-flow {command} ")]
        result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        assert result.exit_code == code, result.output
        if command == "init":
            path = tmp_path / "sft-flow.yaml"
            changed = [line.partition(":")[0] for line in shown.splitlines() if "  # " in line]
            written, edited = (yaml.safe_load(text) for text in (path.read_text(), shown))
            assert changed == ["training", "evaluation"]
            assert written["training"].items() <= edited["training"].items()
            assert written | {name: edited[name] for name in changed} == edited
            path.write_text(shown, encoding="utf-8")


def test_every_test_that_security_names_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\btest_\w+\.py", text))
    assert len(named) > 10
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for folder in re.findall(r"`(tests/[\w/]+)`", text):
        assert (ROOT / folder).is_dir()
