"""What is missing in a store is an answer; any other error of it is passed on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    RESOURCE_DOES_NOT_EXIST,
)

from tasks.registry.store import (
    alias_holder,
    create_version,
    find_version,
    has_artifact,
    has_model_files,
)
from tasks.storage import needed
from tasks.storage.needed import versions_with_alias

URI = "models:/m-1"


class RefusingStore:
    """Answers every question but one with an error."""

    def __init__(self, code: int) -> None:
        self.error = MlflowException("no", error_code=code)

    def search_model_versions(self, _: str) -> list[Any]:
        """Find a version whose run and model are asked for next."""
        return [SimpleNamespace(version="1", run_id="r", source=URI, tags={})]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(*_: Any, **__: Any) -> Any:
            raise self.error

        return refuse


QUESTIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "alias_holder": (lambda store: alias_holder(store, "faq", "champion"), None),
    "has_artifact": (lambda store: has_artifact(store, "r", "report/page.html"), False),
    "has_model_files": (lambda store: has_model_files(store, URI), False),
    "find_version": (lambda store: find_version(store, "faq", "f"), None),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_not_there_is_no_error(name: str) -> None:
    ask, answer = QUESTIONS[name]
    assert ask(RefusingStore(RESOURCE_DOES_NOT_EXIST)) == answer


@pytest.mark.parametrize("name", QUESTIONS)
def test_other_errors_are_passed_on(name: str) -> None:
    store = RefusingStore(INTERNAL_ERROR)
    ask, _ = QUESTIONS[name]
    with pytest.raises(MlflowException) as caught:
        ask(store)
    assert caught.value is store.error


def test_alias_that_mlflow_does_not_accept_has_no_holder() -> None:
    assert alias_holder(RefusingStore(INVALID_PARAMETER_VALUE), "faq", "v1") is None  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [INTERNAL_ERROR, RESOURCE_ALREADY_EXISTS])
def test_version_is_not_made_where_the_store_refuses(code: int) -> None:
    store = RefusingStore(code)
    with pytest.raises(MlflowException) as caught:
        create_version(store, "faq", ("r", URI), {}, "")  # type: ignore[arg-type]
    assert caught.value is store.error


def test_model_that_is_not_registered_has_no_versions_with_an_alias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needed, "has_store", lambda: True)
    monkeypatch.setattr(needed, "connect", lambda: RefusingStore(RESOURCE_DOES_NOT_EXIST))
    assert versions_with_alias(["faq"]) == set()
    store = RefusingStore(INTERNAL_ERROR)
    monkeypatch.setattr(needed, "connect", lambda: store)
    with pytest.raises(MlflowException, match="no"):
        versions_with_alias(["faq"])
