from __future__ import annotations

from pathlib import Path

import pytest

from tasks._home import absolute_tracking_uri


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///runs/mlflow.db", "sqlite:///{here}/runs/mlflow.db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("mlruns", "{here}/mlruns"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://mlflow@host/mlflow", "postgresql://mlflow@host/mlflow"),
        ("databricks", "databricks"),
    ],
)
def test_absolute_tracking_uri_names_the_same_store_from_every_folder(
    uri: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert absolute_tracking_uri() == absolute.format(here=tmp_path)
