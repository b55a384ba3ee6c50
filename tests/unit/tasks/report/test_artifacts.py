"""What is shown of a run, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.engine.keys import slug
from tasks.report._artifacts import (
    gate_table,
    metric_table,
    mlflow_links,
    page_address,
    page_text,
    picture_address,
    rule_table,
)
from tests.support.reports import toy_report


def registered(tracking_uri: str | None, version: int | None = 3) -> dict[str, Any]:
    registry = {"name": "faq 1", "version": version, "run_id": "ab12"}
    registry |= {"experiment_id": "7", "tracking_uri": tracking_uri}
    return toy_report(registry=registry)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("construction-faq-smollm2", "construction-faq-smollm2"),
        # printf 'FAQ 1' | sha256sum
        ("FAQ 1", "faq-1-a79b2e"),
        ("faq_1.", "faq-1-9dff34"),
    ],
)
def test_slug_is_a_key_and_differs_for_different_names(name: str, key: str) -> None:
    assert slug(name) == key


def test_gate_table_rounds_and_says_what_is_not_known() -> None:
    gate = {
        "id": "beats_base", "metric": "loss", "against": "base", "opponent": 2.0,
        "challenger": 1.23456, "gain": 0.76544, "interval_low": 0.5, "interval_high": 1.0, "confidence": 0.975,
        "n_rows": 12, "limit": 0.0, "severity": "block", "verdict": "passed", "reason": "better",
    }  # fmt: skip
    missing = gate | {"opponent": None, "interval_low": None, "confidence": None}
    first, second = gate_table(toy_report(gates=[gate, missing]))
    assert first == {
        "gate": "beats_base", "verdict": "passed", "metric": "loss", "against": "base",
        "challenger": "1.235", "opponent": "2", "gain": "+0.765", "interval": "[0.500, 1]",
        "level": "97.5 %", "limit": "0", "rows": 12, "reason": "better",
    }  # fmt: skip
    assert (second["opponent"], second["interval"], second["level"]) == ("-", "-", "-")


def test_tables_without_rows_say_so() -> None:
    assert gate_table(toy_report(mode="off")) == [{"gate": "-", "verdict": "gates.mode is off"}]
    assert rule_table(toy_report()) == [{"rule": "-", "verdict": "no rule was broken"}]


def test_rule_table_shows_three_places() -> None:
    rule = {
        "id": "prompt_empty", "severity": "warn", "verdict": "warned", "n_rows": 4,
        "observed": None, "limit": 0.0, "fix": "drop them",
        "examples": [{"file": "a.jsonl", "line": line, "detail": ""} for line in (1, 5, 6, 9)],
    }  # fmt: skip
    (row,) = rule_table({"data": {"rules": [rule]}})
    assert row["places"] == "a.jsonl:1; a.jsonl:5; a.jsonl:6"
    assert (row["rows"], row["observed"], row["limit"], row["fix"]) == (4, "-", "0", "drop them")


def test_metric_table_has_a_column_for_every_role() -> None:
    metrics = {"base": {"loss": 2.0}, "challenger": {"loss": 1.5, "chrf": 0.25}}
    assert metric_table({"metrics": metrics}) == [
        {"metric": "loss", "base": "2", "challenger": "1.500"},
        {"metric": "chrf", "base": "-", "challenger": "0.250"},
    ]


def test_mlflow_links_lead_to_the_server_without_passwords() -> None:
    assert mlflow_links(registered("https://me:secret@host/mlflow/")) == {
        "version": "https://host/mlflow/#/models/faq%201/versions/3",
        "run": "https://host/mlflow/#/experiments/7/runs/ab12",
        "page": "https://host/mlflow/#/experiments/7/runs/ab12/artifacts/report.html",
        "picture": "https://host/mlflow/get-artifact?path=loss_curve.svg&run_uuid=ab12",
    }


@pytest.mark.parametrize(
    "report",
    [registered("sqlite:///mlflow.db"), registered(None), registered("http://host", None)],
)
def test_mlflow_links_are_none_without_a_server_or_a_version(report: dict[str, Any]) -> None:
    assert mlflow_links(report) == {}


def test_page_is_a_link_where_a_browser_can_follow_it(tmp_path: Path) -> None:
    served, local = registered("http://host"), registered("sqlite:///mlflow.db")
    assert page_address(served, tmp_path).startswith("http://host/#/experiments/7/runs/")
    assert page_address(local, tmp_path) == f"file://{tmp_path}/report.html"
    assert page_text(served, tmp_path).startswith("[The report as one page](http://host/")
    assert page_text(local, tmp_path).startswith(f"`{tmp_path}/report.html` on ")


def test_picture_is_the_file_itself_where_it_is_there(tmp_path: Path) -> None:
    assert picture_address(registered("sqlite:///mlflow.db"), tmp_path) is None
    assert str(picture_address(registered("http://h"), tmp_path)).startswith("http://h/get-art")
    (tmp_path / "loss_curve.svg").write_text("<svg/>", encoding="utf-8")
    assert picture_address(registered("http://h"), tmp_path) == "data:image/svg+xml;base64,PHN2Zy8+"
