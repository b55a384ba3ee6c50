"""A real Prefect server that asks for a login, as `doctor`, `notify` and runs meet it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import prefect
import pytest
from click.testing import CliRunner
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import State
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_SERVER_API_AUTH_STRING,
    temporary_settings,
)
from prefect.states import Late

import flows.doctor._servers as doctor
from flows.cli.main import main
from flows.doctor.finding import Health
from flows.services.local import WORKER_NAME, last_heartbeat
from flows.services.prefect_api import api_client, check_api, is_up, known_api
from schemas.errors import ConfigError, ServiceUnreachable
from tests.support.http_faults import recording_proxy, refusing_server
from tests.support.prefect_server import Server, running_server

pytestmark = pytest.mark.integration

LOGIN = "ada:a-long-secret"
WRONG = "ada:another-secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    asked = {"PREFECT_SERVER_API_AUTH_STRING": LOGIN}
    with (
        temporary_settings({PREFECT_API_AUTH_STRING: LOGIN}),
        running_server(tmp_path_factory.mktemp("login"), settings=asked) as found,
        temporary_settings({PREFECT_API_URL: found.address}),
    ):
        yield found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without prefect.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("login", [None, WRONG])
def test_login_that_is_missing_or_wrong_is_named(server: Server, login: str | None) -> None:
    settings: dict[Any, Any] = {PREFECT_API_AUTH_STRING: login} if login else {}
    with temporary_settings(settings, restore_defaults={PREFECT_API_AUTH_STRING} - {*settings}):
        with pytest.raises(ConfigError, match="does not accept the login") as caught:
            is_up(server.address)
        found = doctor.check_prefect()
        notify = CliRunner().invoke(main, ["notify", "--list"])
        up = CliRunner().invoke(main, ["up", "--no-worker"])
        promote = CliRunner().invoke(main, ["promote", "toy"])
    assert caught.value.got == "status 401 Unauthorized"
    assert found.health is Health.PROBLEM
    assert "PREFECT_API_AUTH_STRING" in found.fix
    for done in (notify, up, promote):
        assert (done.exit_code, done.stderr.strip()) == (2, str(caught.value)), done.output


def test_login_is_that_of_prefect(server: Server) -> None:
    assert is_up(server.address)
    assert doctor.check_prefect().detail == f"{server.address}, version {prefect.__version__}"
    assert CliRunner().invoke(main, ["notify", "--list", "--json"]).stdout.strip() == "[]"
    assert last_heartbeat(server.address, "no pool") == ""


def test_login_of_our_own_server_is_known_but_told_to_no_other(server: Server) -> None:
    own = {PREFECT_SERVER_API_AUTH_STRING: LOGIN}
    with temporary_settings(own, restore_defaults={PREFECT_API_AUTH_STRING}):
        check_api(server.address)
        with (
            recording_proxy(server.address.removesuffix("/api")) as (proxy, _),
            pytest.MonkeyPatch.context() as patch,
        ):
            behind(proxy, patch)
            with pytest.raises(ConfigError, match="login"):
                check_api("http://prefect.internal/api")


def test_headers_of_prefects_settings_are_sent(server: Server) -> None:
    import base64

    header = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
    headers = {PREFECT_CLIENT_CUSTOM_HEADERS: {"Authorization": header}}
    with temporary_settings(headers, restore_defaults={PREFECT_API_AUTH_STRING}):
        assert is_up(server.address)


def behind(proxy: str, patch: pytest.MonkeyPatch) -> None:
    """Set a proxy as a company's machine has it."""
    from tasks.engine.home import bypass_proxy

    for name in ("no_proxy", "NO_PROXY"):
        patch.setenv(name, "")
    patch.setenv("http_proxy", proxy)
    bypass_proxy()


def test_proxy_is_used_for_other_machines_and_not_for_this_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording_proxy(server.address.removesuffix("/api")) as (proxy, asked):
        behind(proxy, monkeypatch)
        check_api(server.address)
        assert asked == []
        check_api("http://prefect.internal/api")
    assert asked
    assert all(" http://prefect.internal/api/" in one for one in asked)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (502, ServiceUnreachable, "502"),
        (407, ConfigError, "the proxy in front of"),
        (403, ConfigError, "login"),
    ],
)
def test_proxy_that_refuses_is_named(
    status: int, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_server(lambda *_: (status, "no")) as place:
        behind(f"http://{place}", monkeypatch)
        with pytest.raises(error, match=words):
            check_api("http://prefect.internal/api")


def test_slash_at_the_end_of_the_address_does_not_matter(server: Server) -> None:
    with temporary_settings({PREFECT_API_URL: f"{server.address}/"}):
        assert known_api() == server.address
        assert doctor.check_prefect().health is Health.OK


def test_address_without_api_is_told_with_the_right_one(server: Server) -> None:
    root = server.address.removesuffix("/api")
    with temporary_settings({PREFECT_API_URL: root}):
        finding = doctor.check_prefect()
    assert finding.health is Health.PROBLEM
    assert "there is no Prefect API at this address" in finding.detail
    assert finding.fix.startswith(f"set PREFECT_API_URL={server.address}, or unset it")


@pytest.mark.parametrize("address", ["127.0.0.1:4200/api", '"http://127.0.0.1:4200/api"'])
def test_address_without_a_scheme_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match="no Prefect API") as caught:
        check_api(address)
    assert "http:// or https://, without quotes" in caught.value.fix


def test_server_with_too_many_requests_may_be_asked_again() -> None:
    with (
        refusing_server(lambda *_: (429, "slower")) as place,
        pytest.raises(ServiceUnreachable, match="does not answer") as caught,
    ):
        check_api(f"http://{place}/api")
    assert "429" in caught.value.got


def test_page_in_place_of_an_api_is_not_taken_for_one() -> None:
    with (
        refusing_server(lambda *_: (200, "<html>")) as place,
        pytest.raises(ConfigError, match="no Prefect API") as caught,
    ):
        check_api(f"http://{place}/api")
    assert "unset" in caught.value.fix


def test_doctor_compares_versions_of_server_and_client(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = prefect.__version__
    monkeypatch.setattr(prefect, "__version__", "3.0.0")
    finding = doctor.check_prefect()
    assert finding.health is Health.NOTE
    assert f"server {version}, client 3.0.0" in finding.detail


PROJECT = """
definitions: {pool: &pool {name: gpu}}
deployments:
- {name: a, work_pool: *pool}
- {name: b, work_pool: {name: a pool/of others}}
- {name: c, work_pool: *pool}
- {name: d}
"""


def test_doctor_says_what_a_pool_lacks(server: Server, folder: Path) -> None:
    (folder / "prefect.yaml").write_text(PROJECT)
    assert (
        "no work pool gpu; no work pool a pool/of others"
        in doctor.check_pools(server.address).detail
    )
    with api_client(server.address) as client:
        client.create_work_pool(WorkPoolCreate(name="gpu", type="process"))
        assert doctor.check_pools(server.address).fix.startswith(
            "prefect worker start --pool gpu; prefect work-pool create"
        )
        client.send_worker_heartbeat("gpu", WORKER_NAME, 30)
        assert doctor.describe_pool(client, "gpu") == (f"gpu (process): {WORKER_NAME}", "")
        client.update_work_pool("gpu", WorkPoolUpdate(is_paused=True))
        assert doctor.describe_pool(client, "gpu")[1] == "prefect work-pool resume gpu"
    assert last_heartbeat(server.address, "gpu") > ""


def test_doctor_names_the_deployments_and_counts_their_late_runs(server: Server) -> None:
    assert "prefect deploy --all" in doctor.check_deployments(server.address).fix
    assert doctor.check_runs(server.address).health is Health.OK
    with api_client(server.address) as client:
        for flow, name in (("retrain", "weekly"), ("check-data", "gate"), ("other", "no")):
            found = client.create_deployment(client.create_flow_from_name(flow), name)
            late: State[Any] = Late(scheduled_time=datetime.now(UTC) - timedelta(hours=1))
            client.create_flow_run_from_deployment(found, state=late)
    assert doctor.check_deployments(server.address).detail == "gate, weekly"
    finding = doctor.check_runs(server.address)
    assert (finding.health, finding.detail) == (Health.NOTE, "2 late")
    assert "`sft-flow up`" in finding.fix
