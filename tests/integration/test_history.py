"""The history of a name: read from a real store, looked at in a real Chromium."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import flows.cli.history as history_command
from flows.cli.main import main
from schemas.records.decision import Decision
from tasks.registry.history import read_history
from tasks.registry.rejections import Rejection, note_rejection, rejections_path
from tasks.registry.store import connect
from tasks.registry.tags import PROMOTED_AT_TAG
from tasks.report.history_page import render_history
from tests.support.browser import keep_screenshots, open_page
from tests.support.evidence import CONFIG, decide_again, make_evidence, register
from tests.support.reports import toy_history

pytestmark = pytest.mark.integration


@pytest.fixture
def store(
    tmp_path: Path, empty_mlflow_db: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promoted version, a refused one, and refused rows."""
    monkeypatch.setenv("SFT_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(history_command, "quiet_libraries", lambda: None)
    shutil.copy(empty_mlflow_db, tmp_path)
    register(make_evidence(tmp_path, seed=0), CONFIG)
    second = make_evidence(tmp_path, seed=1)
    register(decide_again(second, tmp_path, Decision.REFUSE, 1), CONFIG)
    client = connect()
    client.set_registered_model_alias("toy", "champion", "1")
    client.set_model_version_tag("toy", "1", PROMOTED_AT_TAG, "2026-11-20")
    rejection = Rejection(
        rows_sha256="r", stage_key="s", n_rows=9, reason="all empty", evidence="x"
    )
    note_rejection("toy", rejection)


def test_history_lists_versions_and_refused_rows(store: None) -> None:
    found = read_history(CONFIG.registry)
    told = [(one.version, one.decision, one.aliases, one.compared_with) for one in found.retrains]
    assert told == [(1, "promote", ("champion",), "none"), (2, "refuse", (), "1")]
    assert (found.retrains[0].loss, found.retrains[0].n_train_rows) == (2.0, 2)
    assert [one.reason for one in found.rejections] == ["all empty"]

    done = CliRunner().invoke(main, ["history", "toy", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [one["version"] for one in document["retrains"]] == [1, 2]
    assert "Version 1 is champion" in Path(document["path"]).read_text(encoding="utf-8")


def test_history_skips_a_torn_line(store: None) -> None:
    with rejections_path("toy").open("a", encoding="utf-8") as stream:
        stream.write('{"at":"2026-11-2')
    assert [one.reason for one in read_history(CONFIG.registry).rejections] == ["all empty"]


def test_history_of_an_unknown_name_says_how_to_mend_it(store: None) -> None:
    done = CliRunner().invoke(main, ["history", "nobody"])
    assert done.exit_code == 2
    assert "nothing is registered under this name" in done.stderr


def test_page_loads_draws_and_sorts(tmp_path: Path) -> None:
    path = tmp_path / "history.html"
    path.write_text(render_history(toy_history()), encoding="utf-8")
    with open_page(path) as page:
        charts = page.locator("svg.chart")
        assert charts.count() == 3
        for number in range(3):
            box = charts.nth(number).bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) > 100
        page.locator("th button", has_text="loss").first.click()
        first = page.locator("#versions ~ .wide tbody tr").first
        assert first.locator("th").inner_text().startswith("3")
        assert len(keep_screenshots(page, "history")) == 3
