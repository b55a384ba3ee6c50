"""Custom metrics: one Python function each, listed in the configuration."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import MetricError
from schemas.metrics import AnswerFacts
from tasks.engine.keys import file_sha256

Function = Callable[[str, str, str], float]


@contextmanager
def _current_folder() -> Iterator[None]:
    """Allow imports of modules in the current folder."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def load_metric(name: str, address: str) -> Function:
    """Import a metric.

    Args:
        name: Its name in `evaluation.custom_metrics`.
        address: `module:function`.

    Returns:
        The function: (prompt, reference, answer) -> number.

    Raises:
        MetricError: The module or the function does not exist, or it cannot be imported.
    """
    module, _, function = address.partition(":")
    try:
        with _current_folder():
            found = getattr(importlib.import_module(module), function)
    except Exception as error:
        raise MetricError(
            f"the metric {name} cannot be imported",
            where=f"evaluation.custom_metrics.{name}={address}",
            expected="a Python function in this folder or the environment",
            got=f"{type(error).__name__}: {error}",
            fix="correct module:function, or run in the folder that contains the module",
        ) from error
    if not callable(found):
        raise _wrong(name, f"{address} is a {type(found).__name__}", "set the name of a function")
    return found  # type: ignore[no-any-return]


def score_with(name: str, function: Function, facts: AnswerFacts, row: int) -> float:
    """Score one answer; MetricError for a function that fails or returns no finite number."""
    try:
        value = function(facts.prompt, facts.reference, facts.answer)
    except Exception as error:
        got = f"{type(error).__name__}: {error} on row {row}"
        raise _wrong(name, got, "make the function return a number for every row") from error
    # NaN compares false, and an int beyond a double is no score either.
    if not isinstance(value, Real) or not abs(value) <= sys.float_info.max:
        raise _wrong(name, f"{value!r} on row {row}", "return a finite number or a truth value")
    return float(value)


def _wrong(name: str, got: str, fix: str) -> MetricError:
    return MetricError(
        f"the metric {name} gives no score",
        where=f"evaluation.custom_metrics.{name}",
        expected="function(prompt, reference, answer) -> a finite number",
        got=got,
        fix=fix,
    )


def custom_metrics_sha256(evaluation: EvaluationConfig) -> str:
    """Hash the source files of the custom metrics, but not what those files import."""
    digest = hashlib.sha256()
    for name, address in sorted(evaluation.custom_metrics.items()):
        digest.update(f"{name} {address}\n".encode())
        for module, file in sorted(_sources(address, load_metric(name, address)).items()):
            digest.update(f"{module} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _sources(address: str, function: Function) -> dict[str, Path]:
    """Find the module that is configured and the one that defines what a decorator wraps."""
    modules = {address.partition(":")[0], getattr(inspect.unwrap(function), "__module__", None)}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in modules if name}
    return {name: Path(file) for name, file in files.items() if file}
