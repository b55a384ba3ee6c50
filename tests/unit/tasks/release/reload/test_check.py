from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config.evaluation import ServerConfig
from schemas.errors import RegistryError, ReloadInterrupted, ReloadMismatch
from tasks.release.reload.check import compare, read_outcome, read_settings, run_process
from tasks.release.reload.spec import (
    SETTINGS_FILE,
    Difference,
    EvaluatedSettings,
    Observation,
    ReloadSpec,
)
from tests.support.evidence import CONFIG

SETTINGS = EvaluatedSettings(
    model_sha256="m",
    template_sha256="t",
    stop_token_ids=(2,),
    dtype="float32",
    device="cpu",
    eval_sha256="e",
    seed=1,
    evaluation=CONFIG.evaluation,
)
LOSSES = {0: (10.0, 5), 1: (0.0, 1)}
TIE = Difference(row=3, expected="a b", got="a c", is_tie=True)


def observed(**changes: Any) -> Observation:
    facts: dict[str, Any] = {
        "template_sha256": "t",
        "stop_token_ids": (2,),
        "dtype": "float32",
        "precision": 1e-7,
        "n_answers": 4,
        "differences": (),
        "losses": {0: 10.0005, 1: 0.000001},
    }
    return Observation.model_validate(facts | changes)


def test_equal_models_agree() -> None:
    facts = compare(SETTINGS, LOSSES, observed(differences=(TIE,)), "models:/a/1")
    assert (facts.n_answers, facts.n_differing_answers, facts.n_losses) == (4, 1, 2)
    assert facts.max_loss_difference == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("changes", "what", "where", "expected", "got"),
    [
        ({"template_sha256": "x"}, "chat template", "template_sha256", "t", "x"),
        ({"stop_token_ids": (2, 3)}, "stop tokens", "stop_token_ids", "(2,)", "(2, 3)"),
        ({"dtype": "float16"}, "number format", "dtype", "float32", "float16"),
        ({"losses": {0: 10.002}}, "a loss", "row 0", "10 nats", "10.002 nats"),
        ({"losses": {0: float("nan")}}, "a loss", "row 0", "10 nats", "nan nats"),
        ({"losses": {1: 0.001}}, "a loss", "row 1", "0 nats", "0.001 nats"),
        (
            {"differences": (TIE.model_copy(update={"is_tie": False}),)},
            "an answer",
            "row 3",
            "'a b'",
            "'a c'",
        ),
    ],
)
def test_each_difference_has_its_own_message(
    changes: dict[str, Any], what: str, where: str, expected: str, got: str
) -> None:
    with pytest.raises(ReloadMismatch, match=what) as caught:
        compare(SETTINGS, LOSSES, observed(**changes), "models:/a/1")
    assert caught.value.where.startswith("models:/a/1 ")
    assert caught.value.where.endswith(where)
    assert (caught.value.expected, caught.value.got) == (expected, got)


def test_rounding_of_16_bits_is_allowed_for() -> None:
    found = observed(losses={0: 10.05}, precision=0.0078125)
    assert compare(SETTINGS, LOSSES, found, "m").max_loss_difference == pytest.approx(0.005)


def test_answers_of_a_server_need_not_be_the_same() -> None:
    server = ServerConfig(command="vllm serve {model} --port {port}")
    served = SETTINGS.evaluation.model_copy(update={"server": server})
    settings = SETTINGS.model_copy(update={"evaluation": served})
    other = TIE.model_copy(update={"is_tie": False})
    assert compare(settings, LOSSES, observed(differences=(other,)), "m").n_differing_answers == 1


def test_an_error_of_the_process_is_raised_again() -> None:
    outcome = {"error": "ReloadInterrupted", "what": "memory ran out", "parts": {"fix": "add some"}}
    with pytest.raises(ReloadInterrupted, match="memory ran out") as caught:
        read_outcome(outcome)
    assert caught.value.fix == "add some"


def test_an_observation_is_read() -> None:
    assert read_outcome({"observation": observed().model_dump(mode="json")}) == observed()


def spec_in(folder: Path) -> ReloadSpec:
    return ReloadSpec(address="models:/toy/1", folder=str(folder), n_prompts=1, settings=SETTINGS)


def test_a_process_that_does_not_finish_says_nothing_of_the_model(tmp_path: Path) -> None:
    with pytest.raises(ReloadInterrupted, match="did not finish") as caught:
        run_process(spec_in(tmp_path), timeout_seconds=0.01)
    assert caught.value.got == "none after 0.01 s"
    assert caught.value.is_retryable


def test_a_process_that_dies_says_nothing_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho 'first' >&2\necho 'OSError: no room' >&2\nexit 1\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(interpreter))
    with pytest.raises(ReloadInterrupted, match="did not finish") as caught:
        run_process(spec_in(tmp_path))
    assert caught.value.got == "exit code 1: OSError: no room"


def test_settings_that_cannot_be_read_make_the_version_unusable(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="the version has no record of its evaluation"):
        read_settings(tmp_path, "models:/toy/1")
    (tmp_path / SETTINGS_FILE).write_text("{}")
    with pytest.raises(
        RegistryError, match="the version has no record of its evaluation"
    ) as caught:
        read_settings(tmp_path, "models:/toy/1")
    assert caught.value.got == "settings.json: ValidationError"
    (tmp_path / SETTINGS_FILE).write_text(SETTINGS.model_dump_json())
    assert read_settings(tmp_path, "models:/toy/1") == SETTINGS
