"""Custom metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.evaluation import EvaluationConfig
from schemas.errors import MetricError
from schemas.metrics import AnswerFacts
from tasks.evaluation._custom_metrics import custom_metrics_sha256, load_metric, score_with

FACTS = AnswerFacts("p", "r", "see section 3", 3, 1, is_stopped=True)
SOURCE = """
def cites(prompt, reference, answer):
    return "section" in answer

def fails(prompt, reference, answer):
    return 1 / 0

def says_nan(prompt, reference, answer):
    return float("nan")

def says_text(prompt, reference, answer):
    return "good"

def says_too_much(prompt, reference, answer):
    return 10 ** 400

class Always:
    def __call__(self, prompt, reference, answer):
        return 1.0

always = Always()
NUMBER = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_metrics_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return name


def test_function_of_the_current_folder_scores_an_answer(module: str) -> None:
    assert score_with("cites", load_metric("cites", f"{module}:cites"), FACTS, 0) == 1.0


@pytest.mark.parametrize(
    ("function", "got"),
    [
        ("fails", "ZeroDivisionError"),
        ("says_nan", "nan on row 7"),
        ("says_text", "'good' on row"),
        ("says_too_much", "on row 7"),
    ],
)
def test_function_without_a_number_is_named_with_its_row(
    module: str, function: str, got: str
) -> None:
    with pytest.raises(MetricError, match="gives no score") as caught:
        score_with("own", load_metric("own", f"{module}:{function}"), FACTS, 7)
    assert got in caught.value.got
    assert "row 7" in caught.value.got
    assert caught.value.where == "evaluation.custom_metrics.own"


@pytest.mark.parametrize("function", ["missing", "NUMBER"])
def test_address_without_a_function_is_refused(module: str, function: str) -> None:
    with pytest.raises(MetricError):
        load_metric("own", f"{module}:{function}")


def test_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(MetricError, match="cannot be imported") as caught:
        load_metric("own", "no_such_module_at_all:score")
    assert "ModuleNotFoundError" in caught.value.got


def test_hash_follows_the_source_file(module: str, tmp_path: Path) -> None:
    evaluation = EvaluationConfig(custom_metrics={"cites": f"{module}:cites"})
    before = custom_metrics_sha256(evaluation)
    assert before == custom_metrics_sha256(evaluation)
    (tmp_path / f"{module}.py").write_text(f"{SOURCE}\n# edited\n", encoding="utf-8")
    assert custom_metrics_sha256(evaluation) != before
    assert custom_metrics_sha256(EvaluationConfig()) != before


@pytest.mark.parametrize("address", ["{module}:always", "operator:eq"])
def test_hash_takes_whatever_can_be_called(module: str, address: str) -> None:
    evaluation = EvaluationConfig(custom_metrics={"own": address.format(module=module)})
    assert len(custom_metrics_sha256(evaluation)) == 64


@pytest.mark.parametrize("decorator", ["functools.cache", "{module}_helper.logged"])
def test_hash_follows_the_file_of_a_decorated_metric(
    module: str, decorator: str, tmp_path: Path
) -> None:
    helper = "import functools\n\ndef logged(f):\n    return functools.wraps(f)(lambda *a: f(*a))\n"
    (tmp_path / f"{module}_helper.py").write_text(helper, encoding="utf-8")
    source = f"import functools, {module}_helper\n\n@{decorator.format(module=module)}\n"
    own = tmp_path / f"{module}_own.py"
    own.write_text(f"{source}def score(p, r, a):\n    return 1.0\n", encoding="utf-8")
    evaluation = EvaluationConfig(custom_metrics={"own": f"{module}_own:score"})
    before = custom_metrics_sha256(evaluation)
    own.write_text(f"{source}def score(p, r, a):\n    return 0.0\n", encoding="utf-8")
    assert custom_metrics_sha256(evaluation) != before
