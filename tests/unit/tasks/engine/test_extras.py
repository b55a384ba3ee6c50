from __future__ import annotations

import pytest

from schemas.errors import MissingExtra
from tasks.engine.extras import BASE, missing_extra, require, requirements


def test_requirements_are_those_of_the_base_and_of_the_extras() -> None:
    found = {(extra, requirement.name) for extra, requirement in requirements()}
    assert {(BASE, "polars"), ("train", "torch"), ("sweep", "optuna"), ("dev", "mypy")} <= found
    assert "sft-flow" not in {name for _, name in found}


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", "train"),
        ("optuna.trial", "sweep"),
        ("lm_eval", "lm-eval"),
        ("psycopg2", "mlflow-server"),
    ],
)
def test_missing_module_names_its_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    error = missing_extra(module, "`sft-flow run`")
    assert error is not None
    assert error.fix == f"pip install 'sft-flow[{extra}]'"
    assert str(error).splitlines() == [f"Error: {error.what}: {error.fix}"]
    assert "`sft-flow run` needs the extra" in error.what


@pytest.mark.parametrize("module", ["polars", "yaml", "no_such_module"])
def test_module_of_no_extra_is_not_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert missing_extra(module, "a test") is None


def test_require_accepts_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    require("polars", "a test")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"a setting needs the extra lm-eval"):
        require("lm_eval", "a setting")


def test_module_that_another_version_of_a_package_lacks_is_not_an_extra() -> None:
    assert missing_extra("transformers.no_such_module", "a test") is None
