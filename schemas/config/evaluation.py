"""`EvaluationConfig`: how models are evaluated, the same for base, champion and challenger."""

from __future__ import annotations

import re
import shlex
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from schemas.base import FETCHED, Section
from schemas.config.gates import JUDGE_METRIC
from schemas.metrics import (
    ANSWER_METRICS,
    DEFAULT_METRICS,
    EXPECTED_PREFIX,
    LOSS_PREFIX,
    TOKEN_METRICS,
)
from schemas.redaction import SECRET_VARIABLE

FUNCTION_PATTERN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
METRIC_PATTERN = r"^[a-z][a-z0-9_]*$"


class Endpoint(StrEnum):
    """What a server is asked for: to continue the rendered prompt, or to answer the messages."""

    COMPLETIONS = "completions"
    CHAT = "chat"


SECRET_WORD = re.compile(
    r"-*(\w+[-_])*(api_?key|key|token|secret|password|passwd)(=.+)?$", re.IGNORECASE
)
"""An option or variable of a command that contains a secret: configurations are stored and shown."""
LONGEST_SECONDS = 86_400.0


class ServerConfig(Section):
    """An OpenAI-compatible server that generates the answers; started and stopped for each model."""

    command: str
    """Command of the server, run without a shell; {model} is the folder of the model, {port} a free port of 127.0.0.1 (::1 without IPv4)."""
    model_name: str = "{model}"
    """Name of the model in requests, as the server knows it; {model} is its folder."""
    endpoint: Endpoint = Endpoint.COMPLETIONS
    """completions sends the rendered prompt; chat sends the messages, for a server without completions."""
    parallel_requests: int = Field(default=8, ge=1)
    """Prompts sent at the same time."""
    start_seconds: float = Field(default=600.0, gt=0, le=LONGEST_SECONDS)
    """Time limit from the start to the first answer; loading the model is part of it."""
    timeout_seconds: float = Field(default=300.0, gt=0, le=LONGEST_SECONDS)
    """Time limit of one answer."""

    @field_validator("command")
    @classmethod
    def _command_can_be_filled_in(cls, command: str) -> str:
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"a command line, which this is not: {error}") from error
        secret = next((word for word in words if SECRET_WORD.match(word)), None)
        if secret:
            raise ValueError(
                f"a command without secrets, and {secret.partition('=')[0]} looks like one; "
                "set it in the environment, which the server gets too"
            )
        missing = [name for name in ("{model}", "{port}") if name not in " ".join(words[1:])]
        if missing:
            raise ValueError(
                f"a command with {' and '.join(missing)}, "
                "such as vllm serve {model} --host 127.0.0.1 --port {port}"
            )
        return command


class JudgeConfig(Section):
    """A language model that compares two answers, asked twice with the order swapped."""

    url: str = Field(min_length=1)
    """Base address of an OpenAI-compatible service, e.g. http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """Name of the judging model at the service."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key; a configuration never contains the key itself. Its name ends
    in `_KEY`, `TOKEN` or `SECRET`, by which its value is recognised and removed from messages."""
    n_rows: int = Field(default=50, ge=1)
    """Answers to compare, the first of those generated."""
    instructions: str = ""
    """Instruction to the judge, what a good answer is; empty for the built-in one."""
    timeout_seconds: float = Field(default=60.0, gt=0, le=LONGEST_SECONDS)
    """Time limit of one comparison."""

    @field_validator("api_key_variable")
    @classmethod
    def _is_recognised(cls, name: str) -> str:
        if not SECRET_VARIABLE.search(name):
            raise ValueError(
                "a name that ends in _KEY, TOKEN or SECRET, such as JUDGE_API_KEY: the values of "
                "such variables are removed from logs and errors"
            )
        return name


class LmEvalConfig(Section):
    """Tasks of lm-evaluation-harness, run for every model; needs the extra `lm-eval`."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names or YAML files of tasks."""
    limit: int | None = Field(default=None, ge=1)
    """Examples per task; null takes all."""
    apply_chat_template: bool = True
    """Render prompts with the chat template of the model, as in evaluation and in use."""

    @field_validator("tasks")
    @classmethod
    def _tasks_have_distinct_names(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        is_file = {task: task.endswith((".yaml", ".yml")) for task in tasks}
        names = [PurePath(task).stem if is_file[task] else task for task in tasks]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(
                f"two tasks are called {twice!r}, by name or by file name; rename one file"
            )
        return tasks


class EvaluationConfig(Section):
    """How models are evaluated; the same for every model."""

    n_generation_rows: int = Field(default=12, ge=1)
    """Held-out prompts each model answers, drawn by the hash of their text."""
    max_new_tokens: int = Field(default=48, ge=1)
    """Longest answer in tokens."""
    generation_batch_size: int = Field(default=32, ge=1)
    """Prompts per batch when generating (left padding)."""
    loss_batch_size: int = Field(default=8, ge=1)
    """Rows per forward pass when measuring the loss."""
    server: ServerConfig | None = None
    """A server that generates the answers, e.g. vLLM; null generates them with transformers."""
    metrics: tuple[str, ...] = DEFAULT_METRICS
    """Answer metrics to compute, in addition to those of the reference's tokens."""
    custom_metrics: dict[
        Annotated[str, StringConstraints(pattern=METRIC_PATTERN)],
        Annotated[str, StringConstraints(pattern=FUNCTION_PATTERN)],
    ] = {}
    """Custom metrics: name to module:function, called as function(prompt, reference, answer) -> float."""
    json_schema: str | None = None
    """JSON Schema file for metric json_schema_validity."""
    pattern: str | None = None
    """Regular expression for metric regex_match."""
    slices: tuple[str, ...] = ()
    """Columns to slice the scores by, in addition to turns and length."""
    judge: JudgeConfig | None = None
    """A judging language model; none by default."""
    retention: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=METRIC_PATTERN)],
            Annotated[str, StringConstraints(min_length=1)],
        ],
        FETCHED,
    ] = {}
    """Rows outside the domain on which no model may become worse: name to file or bundled name, e.g.
    {general: general-instructions, safety: safety-requests}."""
    lm_eval: LmEvalConfig | None = None
    """Tasks of lm-evaluation-harness; none by default."""

    @field_validator("metrics")
    @classmethod
    def _metrics_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(ANSWER_METRICS))
        if unknown:
            raise ValueError(
                f"unknown metric {unknown[0]!r}; known are {', '.join(sorted(ANSWER_METRICS))}; "
                "add your own to evaluation.custom_metrics"
            )
        return names

    @model_validator(mode="after")
    def _metrics_have_what_they_need(self) -> EvaluationConfig:
        if "json_schema_validity" in self.metrics and self.json_schema is None:
            raise ValueError("metric json_schema_validity needs a file in evaluation.json_schema")
        if "regex_match" in self.metrics and self.pattern is None:
            raise ValueError("metric regex_match needs evaluation.pattern")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"evaluation.pattern is no regular expression: {error}") from error
        taken = sorted(self.custom_metrics.keys() & (TOKEN_METRICS.keys() | ANSWER_METRICS.keys()))
        if taken:
            raise ValueError(f"evaluation.custom_metrics: {taken[0]} is a built-in metric")
        return self

    @property
    def metric_names(self) -> frozenset[str]:
        """Every metric that a gate can use."""
        names = {*TOKEN_METRICS, *self.metrics, *self.custom_metrics}
        if self.judge:
            names.add(JUDGE_METRIC)
        if self.lm_eval:
            names.update(f"lm_eval/{task}" for task in self.lm_eval.tasks)
        prefixes = (LOSS_PREFIX, EXPECTED_PREFIX)
        names.update(prefix + name for name in self.retention for prefix in prefixes)
        return frozenset(names)
