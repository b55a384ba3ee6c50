"""Settings of the evaluation."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.config.evaluation import EvaluationConfig, JudgeConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metrics": ["exact_mach"]}, "unknown metric 'exact_mach'"),
        ({"metrics": ["json_schema_validity"]}, "needs a file in evaluation.json_schema"),
        ({"metrics": ["regex_match"]}, "needs evaluation.pattern"),
        ({"metrics": ["regex_match"], "pattern": "("}, "evaluation.pattern"),
        ({"custom_metrics": {"loss": "own:loss"}}, "custom_metrics: loss is a built-in metric"),
        ({"custom_metrics": {"own": "own.loss"}}, "pattern"),
        ({"judge": {"url": "", "model": "m"}}, "at least 1 character"),
        ({"server": {"command": "vllm serve {model}"}}, r"a command with \{port\}, such as"),
        ({"server": {"command": "{model} {port}"}}, r"a command with \{model\}, such as"),
        ({"server": {"command": ""}}, r"a command with \{model\} and \{port\}"),
        ({"server": {"command": "vllm '{model} {port}"}}, "No closing quotation"),
        ({"server": {"command": "a {model} {port}", "endpoint": "responses"}}, "'chat'"),
        ({"server": {"command": "a {model} {port}", "parallel_requests": 0}}, "greater than"),
        ({"lm_eval": {"tasks": []}}, "at least 1 item"),
        ({"lm_eval": {"tasks": ["a/walls.yaml", "b/walls.yml"]}}, "two tasks are called 'walls'"),
        ({"lm_eval": {"tasks": ["walls", "walls.yaml"]}}, "two tasks are called 'walls'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EvaluationConfig.model_validate(settings)


def test_metric_names_are_all_a_gate_can_ask_for() -> None:
    evaluation = EvaluationConfig.model_validate(
        {
            "metrics": ["exact_match"],
            "custom_metrics": {"own": "own:score"},
            "judge": {"url": "http://127.0.0.1:1/v1", "model": "m"},
            "lm_eval": {"tasks": ["arc_easy"]},
            "retention": {"general": "general-instructions"},
        }
    )
    assert evaluation.metric_names == {
        "loss", "perplexity", "token_accuracy", "prompt_dependence", "exact_match", "own",
        "judge_win_rate", "lm_eval/arc_easy", "loss/general", "expected/general",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_taken"), [("OPENAI_API_KEY", True), ("JUDGE_TOKEN", True), ("MY_JUDGE", False)]
)
def test_variable_of_the_judges_key_is_one_whose_value_is_removed_from_messages(
    name: str, is_taken: bool
) -> None:
    judge = {"url": "http://host", "model": "judge", "api_key_variable": name}
    if is_taken:
        assert JudgeConfig.model_validate(judge).api_key_variable == name
    else:
        with pytest.raises(ValidationError, match="ends in _KEY"):
            JudgeConfig.model_validate(judge)
