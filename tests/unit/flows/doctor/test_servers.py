from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect import __version__
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.doctor._servers as doctor
from flows.doctor.finding import Health

pytestmark = pytest.mark.loopback

WORKERS = "/work_pools/sft-local/workers/filter"
POOL = {"is_paused": False, "type": "process"}


class Api(BaseHTTPRequestHandler):
    """Answers as Prefect's API does, from a mapping of path to document."""

    answers: dict[str, Any]

    def do_GET(self) -> None:
        found = self.path in self.answers
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(self.answers.get(self.path)).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without prefect.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def answers() -> Iterator[dict[str, Any]]:
    """Answers of the server that is configured while the test runs."""
    Api.answers = {"/health": True, "/admin/version": __version__}
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}"}):
            yield Api.answers
        server.shutdown()


def test_doctor_finds_a_dead_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    finding = doctor.check_store()
    assert (finding.health, "9" in finding.detail) == (Health.PROBLEM, True)


def test_doctor_finds_a_dead_prefect_server() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        found = [doctor.check_prefect(), doctor.check_pools(), doctor.check_deployments()]
    assert [one.health for one in found] == [Health.PROBLEM, Health.NOTE, Health.NOTE]
    assert "sft-flow up" in found[0].mend


def test_doctor_compares_versions_of_server_and_client(answers: dict[str, Any]) -> None:
    assert doctor.check_prefect().health is Health.OK
    answers["/admin/version"] = "3.0.0"
    finding = doctor.check_prefect()
    assert finding.health is Health.NOTE
    assert f"server 3.0.0, client {__version__}" in finding.detail


@pytest.mark.parametrize(
    ("pool", "workers", "health", "words"),
    [
        (None, [], Health.NOTE, "prefect work-pool create"),
        (POOL | {"is_paused": True}, [], Health.NOTE, "prefect work-pool resume"),
        (POOL, [{"name": "w", "status": "OFFLINE"}], Health.NOTE, "prefect worker start"),
        (POOL, [{"name": "w", "status": "ONLINE"}], Health.OK, ""),
    ],
)
def test_doctor_says_what_a_pool_lacks(
    answers: dict[str, Any],
    pool: dict[str, Any] | None,
    workers: list[dict[str, str]],
    health: Health,
    words: str,
) -> None:
    if pool:
        answers["/work_pools/sft-local"] = pool
    answers[WORKERS] = workers
    finding = doctor.check_pools()
    assert finding.health is health
    assert words in finding.mend


PROJECT = """
definitions: {pool: &pool {name: gpu}}
deployments:
- {name: a, work_pool: *pool}
- {name: b, work_pool: {name: nightly}}
- {name: c, work_pool: *pool}
- {name: d}
"""


def test_doctor_looks_at_the_pools_that_prefect_yaml_names(
    answers: dict[str, Any], folder: Path
) -> None:
    (folder / "prefect.yaml").write_text(PROJECT)
    answers["/work_pools/gpu"] = POOL
    answers["/work_pools/gpu/workers/filter"] = [{"name": "w", "status": "ONLINE"}]
    finding = doctor.check_pools()
    assert finding.health is Health.NOTE
    assert finding.detail == "gpu (process): w; no work pool nightly"
    assert finding.mend == "prefect work-pool create --type process nightly"


@pytest.mark.parametrize("text", ["deployments: [", "- a", "deployments: [a]"])
def test_doctor_names_a_prefect_yaml_that_cannot_be_read(
    answers: dict[str, Any], folder: Path, text: str
) -> None:
    (folder / "prefect.yaml").write_text(text)
    finding = doctor.check_pools()
    assert (finding.health, "cannot be read" in finding.detail) == (Health.NOTE, True)


def test_doctor_names_the_deployments(answers: dict[str, Any]) -> None:
    answers["/deployments/filter"] = []
    assert "prefect deploy --all" in doctor.check_deployments().mend
    answers["/deployments/filter"] = [{"name": "retrain-weekly"}, {"name": "check-data"}]
    assert doctor.check_deployments().detail == "check-data, retrain-weekly"
