"""Names of assets."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.assets import Asset

from schemas.config.run import DataSource
from tasks.report._assets import dataset_key, model_key


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("https://me:secret@host/rows.jsonl?signature=1", "https://host/rows.jsonl"),
        ("s3://bucket/rows [1].jsonl", "s3://bucket/rows__1_.jsonl"),
        ("owner/name", "hf://datasets/owner/name"),
        ("construction-faq", "python://zaragoza-construction-faq/construction-faq"),
    ],
)
def test_dataset_key_is_an_address(source: str, key: str) -> None:
    assert dataset_key(DataSource(source=source)) == key
    assert Asset(key=key).key == key


def test_dataset_key_of_a_file_is_its_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "*.jsonl", f"file://{tmp_path}/rows.jsonl"):
        path = tmp_path / name.rpartition("/")[2]
        assert dataset_key(DataSource(source=name)) == f"file://{path}"


def test_model_key_has_no_space() -> None:
    assert model_key("my faq") == "mlflow://my_faq"
    assert Asset(key=model_key("my faq")).key == "mlflow://my_faq"
