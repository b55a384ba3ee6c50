"""Two processes that write the same to the store at the same moment: neither fails for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from schemas.config.registry import RegistryConfig
from schemas.errors import RegistryBusy, is_retryable
from tasks.registry import lease
from tasks.registry.lease import promotion_lease
from tasks.registry.store import store_errors
from tasks.registry.tags import LEASE_TAG
from tasks.registry.write_check import PROBE, check_writes

pytestmark = pytest.mark.integration

INSERT_TAG = "INSERT INTO registered_model_tags (workspace, name, key, value) VALUES (?, ?, ?, ?)"
INSERT_ALIAS = (
    "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES (?, ?, ?, ?)"
)


@contextmanager
def another_writes(home: Path, statement: str, values: tuple[str, ...]) -> Iterator[list[str]]:
    """Let another process write after MLflow looked for the same row, and before it writes it."""
    written: list[str] = []

    def write(session: Session, *_: object) -> None:
        table = statement.split()[2]
        if not written and any(one.__tablename__ == table for one in session.new):
            with sqlite3.connect(home / "mlflow.db") as database:
                database.execute(statement, ("default", *values))
            database.close()
            written.append(table)

    event.listen(Session, "before_flush", write)
    try:
        yield written
    finally:
        event.remove(Session, "before_flush", write)


def test_second_to_ask_for_a_lease_waits_until_the_first_is_done(
    toy_client: Any, mlflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)  # the first does not renew its lease
    with (
        another_writes(mlflow_home, INSERT_TAG, ("toy", LEASE_TAG, '{"token": "a"}')) as written,
        promotion_lease(toy_client, "toy", 30) as held,
    ):
        assert written
        held.require()


def test_check_of_a_run_does_not_mind_that_of_another(toy_client: Any, mlflow_home: Path) -> None:
    with another_writes(mlflow_home, INSERT_TAG, ("toy", PROBE, "ok")) as written:
        check_writes(RegistryConfig(name="toy"), is_training=True)
    assert written
    assert not toy_client.get_registered_model("toy").tags


def test_alias_that_two_set_at_once_is_set_by_a_retry(toy_client: Any, mlflow_home: Path) -> None:
    toy_client.create_model_version("toy", str(mlflow_home))
    with (
        another_writes(mlflow_home, INSERT_ALIAS, ("toy", "challenger", "1")),
        pytest.raises(RegistryBusy, match="at the same moment") as caught,
        store_errors(),
    ):
        toy_client.set_registered_model_alias("toy", "challenger", "1")
    assert is_retryable(caught.value)
    toy_client.set_registered_model_alias("toy", "challenger", "1")
