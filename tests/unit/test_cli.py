from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import flows._doctor as doctor
import flows._plan as plan
import flows._show as show
import flows._status as status
from flows._console import GuardedGroup, Terminated, describe, plain_table
from flows._run_log import ShortFailures
from flows.cli import main
from schemas.errors import DataRejected, SftFlowError, TrainingError, TrainingInterrupted
from schemas.records import DatasetReference, QualityReference
from schemas.rules import RuleExample, RuleResult, Severity, Verdict
from schemas.run_config import RunConfig
from schemas.stages import Stage
from tasks._cache import Lookup
from tasks._journal import StageEntry, append_entry
from tasks._keys import StageKey

COMMANDS = ("run", "plan", "check", "status", "report", "doctor")
REPORT: dict[str, Any] = {
    "decision": "promote",
    "reason": "loss fell by 0.2",
    "gates": [],
    "metrics": {"base": {"loss": 2.5, "n": 3}, "tuned": {"loss": 2.25, "rouge": None}},
    "answers": [{"prompt": "What?", "reference": "A.", "base": "B.", "tuned": "C."}] * 5,
    "registry": {
        "name": "faq",
        "version": 2,
        "alias": "champion",
        "previous_version": 1,
        "tracking_uri": "sqlite:////tmp/mlflow.db",
    },
}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


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
        "import sys\nfrom flows.cli import main\n"
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
        (DataRejected("no", fix="mend"), 1),
        (TrainingError("no", fix="mend"), 3),
        (RuntimeError("odd\nsecond line"), 3),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (TrainingInterrupted("stopped"), 130),
    ],
)
def test_exit_codes_of_errors(error: BaseException, code: int) -> None:
    result = fail_with(error)
    assert result.exit_code == code
    assert "Traceback" not in result.stderr


def test_interrupted_run_says_that_the_next_one_picks_up() -> None:
    assert fail_with(KeyboardInterrupt()).stderr.count("\n") == 1
    assert "next run picks up" in fail_with(KeyboardInterrupt()).stderr


def test_unknown_error_is_one_line_and_names_debug() -> None:
    assert describe(RuntimeError("odd\nsecond line")) == (
        "RuntimeError: odd  (add --debug for the traceback)"
    )
    assert describe(RuntimeError()).startswith("RuntimeError: no message")
    assert describe(SftFlowError("a", fix="b")) == "SftFlowError: a\n  Fix: b"


def shown(message: str, *arguments: object, error: Exception | None = None) -> str | None:
    """Pass a record through the filter and format what is left of it."""
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("prefect", logging.ERROR, "x.py", 1, message, arguments, info)
    return logging.Formatter().format(record) if ShortFailures().filter(record) else None


OURS = DataRejected("3 rows broke a rule", fix="mend them")


@pytest.mark.parametrize(
    "text",
    [
        f"Task run encountered an exception DataRejected: {OURS}",
        f"Flow run encountered an exception: DataRejected: {OURS}",
    ],
)
def test_run_log_drops_the_final_state_that_repeats_an_error_of_ours(text: str) -> None:
    assert shown(f"Finished in state Failed({text!r})") is None


def test_run_log_drops_errors_of_ours_and_keeps_others_without_traceback() -> None:
    message = "Encountered exception during execution: %r"
    assert shown(message, OURS, error=OURS) is None
    odd = RuntimeError("odd")
    assert shown(message, odd, error=odd) == f"{message[:-2]}RuntimeError('odd')"


@pytest.mark.parametrize(
    "text",
    [
        "Finished in state Completed()",
        "Finished in state Failed('Task run encountered an exception KeyError: 1')",
    ],
)
def test_run_log_keeps_other_final_states(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OURS, "3 rows broke a rule"), (OSError("a\nb"), "OSError('a\\nb')")],
)
def test_run_log_says_a_retry_in_one_line(error: Exception, reason: str) -> None:
    message = "Task run failed with %s: %r - Retry %s/%s will start %s"
    when = "1.8234 second(s) from now"
    assert shown(message, "exception", error, 1, 3, when) == (
        f"Retry 1/3 will start 1.8 second(s) from now: {reason}"
    )


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


def test_show_report_has_figures_answers_decision_and_pages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.show_report(REPORT, Path("report.html"))
    text = capsys.readouterr().out
    assert "loss    2.5000  2.2500" in text
    assert "rouge   -       -" in text
    assert text.count("What?") == 3
    assert "Decision: PROMOTE - loss fell by 0.2" in text
    assert "faq version 2 is champion (before: version 1), models:/faq@champion" in text
    assert "prefect server start" in text
    assert "mlflow ui --backend-store-uri sqlite:////tmp/mlflow.db" in text


def test_show_decision_says_who_stays_after_a_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    show.show_decision({**REPORT, "decision": "refuse"})
    assert "version 2 is registered, version 1 stays champion" in capsys.readouterr().out


def test_mlflow_command_of_a_server_is_its_address() -> None:
    assert show.mlflow_command("http://host:5000") == "MLflow is at http://host:5000"


def test_shorten_cuts_at_400_characters() -> None:
    assert len(show.shorten("x" * 401)) == 400
    assert show.shorten(" x\n") == "x"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "about 5 s"), (300, "about 5 min"), (9000, "about 2.5 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert show.duration(seconds) == text


def config_of(**training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": training})


def test_estimate_steps_packed() -> None:
    config = config_of(packing_length_tokens=100, per_device_train_batch_size=2)
    assert plan.estimate_steps(config, n_rows=50, n_tokens=950) == (5, 950)


def test_estimate_steps_unpacked_with_accumulation_and_epochs() -> None:
    config = config_of(
        packing=False,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        num_train_epochs=3,
    )
    assert plan.estimate_steps(config, n_rows=40, n_tokens=1000) == (15, 3000)


def test_estimate_steps_max_steps_goes_before_epochs() -> None:
    config = config_of(packing=False, per_device_train_batch_size=4, max_steps=5)
    assert plan.estimate_steps(config, n_rows=40, n_tokens=1000) == (5, 500)


def test_tokens_per_second_scales_with_the_model() -> None:
    rate, origin = plan.tokens_per_second(RunConfig(), 2 * plan.MEASURED_PARAMETERS)
    assert rate == 75.0
    assert "estimate" in origin


def test_tokens_per_second_of_an_earlier_training_here_goes_first(work_folder: Path) -> None:
    folder = work_folder / "stages" / "train_model" / "abc"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text('{"tokens_per_second": 42.5}', encoding="utf-8")
    assert plan.tokens_per_second(RunConfig(), None)[0] == 42.5


def hit(reference: Any) -> Lookup:
    return Lookup(StageKey(reference.stage, {}), reference, "unchanged", 1)


def dataset(work_folder: Path) -> DatasetReference:
    folder = work_folder / "stages" / "load_dataset" / "a"
    folder.mkdir(parents=True)
    row = {"messages": [{"role": "user", "content": "x" * 396}]}
    line = json.dumps({"file": "a", "line": 1, "row": row}) + "\n"
    (folder / "rows.jsonl").write_text(line * 10, encoding="utf-8")
    return DatasetReference(
        stage="load_dataset", folder="stages/load_dataset/a", sha256="0", source="a", n_rows=10
    )


def test_estimate_training_from_characters_when_only_rows_are_known(work_folder: Path) -> None:
    found = plan.estimate_training(RunConfig(), [hit(dataset(work_folder))])
    assert found is not None
    assert (found.n_train_rows, found.n_train_tokens) == (9, 900)
    assert "guessed" in found.basis


def test_estimate_training_from_counted_tokens_when_they_are_known(work_folder: Path) -> None:
    quality = QualityReference(
        stage="check_quality",
        folder="b",
        sha256="0",
        verdict=Verdict.PASSED,
        n_train_rows=7,
        n_eval_rows=2,
        n_train_tokens=1500,
        n_supervised_tokens=700,
        eval_sha256="0",
        rules=(),
    )
    found = plan.estimate_training(RunConfig(), [hit(dataset(work_folder)), hit(quality)])
    assert found is not None
    assert (found.n_train_rows, found.n_train_tokens, found.seconds) == (7, 1500, 10.0)


def test_estimate_training_is_unknown_before_anything_was_loaded() -> None:
    assert plan.estimate_training(RunConfig(), []) is None


def test_show_plan_without_work_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    entry = plan.PlannedStage(stage=Stage.DECIDE, outcome="HIT", reason="verified 2 files")
    show.show_plan(plan.PlanReport(stages=(entry,), estimate=None))
    assert "Nothing to do" in capsys.readouterr().out


def test_show_check_prints_rules_places_and_fixes(capsys: pytest.CaptureFixture[str]) -> None:
    from types import SimpleNamespace

    rule = RuleResult(
        id="content_empty",
        severity=Severity.BLOCK,
        verdict=Verdict.FAILED,
        n_rows=2,
        fraction=0.5,
        examples=(RuleExample(file="a.jsonl", line=3, detail="turn 1"),),
        fix="drop it",
    )
    report = SimpleNamespace(
        verdict="rejected",
        n_rows=4,
        n_kept_rows=2,
        n_quarantined_rows=2,
        formats={"messages": 4},
        rules=(rule,),
    )
    show.show_check(report)
    text = capsys.readouterr().out
    assert "Data REJECTED: 4 rows, formats: 4 messages" in text
    assert "Kept 2, quarantined 2." in text
    assert "a.jsonl:3 turn 1" in text


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


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("click>=8", ""),
        ("click>=99", "is outside >=99"),
        ("no-such-package-here", "no-such-package-here is missing"),
        ("no-such-package-here; extra == 'dev'", ""),
        ("!!", "unreadable requirement"),
    ],
)
def test_requirement_problem(line: str, problem: str) -> None:
    found = doctor.requirement_problem(line)
    assert problem in found
    assert bool(problem) == bool(found)


def test_doctor_names_an_unwritable_work_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "file" / "home"))
    finding = doctor.check_home()
    assert finding.health is doctor.Health.PROBLEM
    assert "SFT_HOME" in finding.mend


def test_doctor_takes_an_offline_hub_for_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.check_hub().health is doctor.Health.NOTE


def test_doctor_goes_on_when_one_examination_breaks() -> None:
    def check_something() -> doctor.Finding:
        raise RuntimeError("odd")

    finding = doctor._guarded(check_something)
    assert (finding.topic, finding.health) == ("something", doctor.Health.PROBLEM)
    assert finding.detail == "RuntimeError: odd"


@pytest.mark.loopback
def test_doctor_finds_a_dead_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    finding = doctor.check_store()
    assert (finding.health, "9" in finding.detail) == (doctor.Health.PROBLEM, True)
