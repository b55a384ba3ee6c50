from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from tasks.registry._opening import create_store, taking_turns
from tasks.registry.store import connect


@pytest.mark.parametrize(
    "uri", ["localhost:5000", '"http://localhost:5000"', "postgres://ada:secret@db/x", "ftp://host"]
)
def test_address_that_mlflow_cannot_use_is_named(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="MLflow cannot use this address") as caught:
        connect()
    assert caught.value.where == "MLFLOW_TRACKING_URI"
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_store_that_can_only_be_read_is_read_without_a_lock(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_folder.mkdir()
    create_store(work_folder / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(
        os, "access", lambda _, mode: mode != os.W_OK
    )  # as in another user's folder
    assert isinstance(taking_turns(), nullcontext)
    assert [one.name for one in connect().search_experiments()] == ["Default"]
    assert [path.name for path in work_folder.iterdir()] == ["mlflow.db"]
