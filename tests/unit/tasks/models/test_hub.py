"""The hub: a model from the local cache, a hub that answers, and one that does not."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import httpx
import pytest

from schemas.config.run import ModelConfig
from schemas.errors import DataSourceError, ModelSourceError, ServiceUnreachable
from tasks.models.hub import find_hub_model
from tasks.models.source import load_model, model_fingerprint
from tasks.sources import hub as hub_module
from tasks.sources.hub import HubKind, hub_commit, hub_errors
from tests.support.toy import make_toy_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client lays it out, with one model on branch main."""
    from huggingface_hub import constants

    root = tmp_path / "hub"
    home = root / "models--acme--toy"
    snapshot, blobs = home / "snapshots" / COMMIT, home / "blobs"
    for folder in (snapshot, blobs, home / "refs"):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for number, path in enumerate(sorted(make_toy_model(tmp_path / "toy").iterdir())):
        shutil.move(path, blobs / f"{number:040x}")
        (snapshot / path.name).symlink_to(blobs / f"{number:040x}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    return root


class FakeHub(BaseHTTPRequestHandler):
    """Answers for one model, and is the only thing faked here."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer the question for a model's files."""
        if self.path.startswith("/api/models/acme/toy"):
            body = {"id": "acme/toy", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
            self._answer(200, {}, json.dumps(body).encode())
        elif self.path.startswith("/api/models/acme/busy"):
            self._answer(503, {}, b"{}")
        elif "/acme/limited" in self.path:
            is_first = self.path not in FakeHub.asked
            FakeHub.asked.append(self.path)
            if is_first or "always" in self.path:
                self._answer(429, {"Retry-After": "7" if is_first else "3600"}, b"{}")
            else:
                self._answer(200, {}, json.dumps({"id": "acme/limited", "sha": COMMIT}).encode())
        elif self.path.startswith("/api/datasets/acme/window"):
            self._answer(429, {"RateLimit": '"api";r=0;t=299'}, b"{}")
        elif "/acme/expired" in self.path:
            message = "Invalid credentials in Authorization header"
            self._answer(401, {"X-Error-Message": message}, b"{}")
        elif "/acme/gated" in self.path:
            self._answer(403, {"X-Error-Code": "GatedRepo"}, b"{}")
        elif "/acme/forbidden" in self.path:
            self._answer(403, {}, b"{}")
        else:
            self._answer(404, {"X-Error-Code": "RepoNotFound"}, b"{}")

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.constants, "ENDPOINT", address)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    point_to(address, monkeypatch)
    yield address
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("cache")
def test_hub_model_loads_from_the_cache_without_a_connection() -> None:
    config = ModelConfig(source="acme/toy")
    model, tokenizer = load_model(config)
    assert model.config.num_hidden_layers == 2
    assert tokenizer.pad_token == "<|endoftext|>"
    assert model_fingerprint(config) == COMMIT


def test_find_hub_model_lists_the_cached_files(cache: Path) -> None:
    found = find_hub_model("acme/toy", None)
    names = {path.name for path in (cache / "models--acme--toy" / "snapshots" / COMMIT).iterdir()}
    assert (found.commit, found.files) == (COMMIT, names)


@pytest.mark.usefixtures("cache")
def test_model_that_is_not_in_the_cache_says_how_to_fetch_it() -> None:
    with pytest.raises(ModelSourceError, match="not in the local Hugging Face cache") as caught:
        load_model(ModelConfig(source="acme/other", revision="v2"))
    assert "hf download acme/other" in caught.value.fix
    assert caught.value.where == "model.source=acme/other, model.revision=v2"


def test_full_commit_stands_for_itself() -> None:
    assert hub_commit("acme/toy", COMMIT) == COMMIT


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_find_hub_model_asks_the_hub() -> None:
    found = find_hub_model("acme/toy", "main")
    assert (found.commit, found.files) == (COMMIT, {"config.json"})


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_unknown_hub_model_is_a_wrong_source() -> None:
    with pytest.raises(
        ModelSourceError, match="model acme/missing was not found on the Hub, or"
    ) as caught:
        model_fingerprint(ModelConfig(source="acme/missing"))
    assert caught.value.where == "model.source=acme/missing"


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_unknown_hub_dataset_is_a_wrong_source() -> None:
    with pytest.raises(DataSourceError, match="dataset acme/missing was not found on the Hub, or"):
        hub_commit("acme/missing", None, HubKind.DATASET)


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_hub_that_answers_with_a_server_error_may_be_asked_again() -> None:
    with pytest.raises(ServiceUnreachable) as caught:
        hub_commit("acme/busy", None)
    assert caught.value.is_retryable


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the product waited, by a clock that only this moves."""
    found: list[float] = []
    clock = SimpleNamespace(sleep=found.append, monotonic=lambda: sum(found))
    monkeypatch.setattr(hub_module, "time", clock)
    FakeHub.asked.clear()
    return found


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("kind", list(HubKind))
def test_rate_limit_is_waited_for_as_long_as_the_hub_says(
    kind: HubKind, waits: list[float]
) -> None:
    assert hub_commit("acme/limited", None, kind) == COMMIT
    assert waits == [8]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("30", 31), ("", None), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 1)],
)
def test_time_to_wait_is_seconds_or_a_date(given: str, seconds: int | None) -> None:
    error = ServiceUnreachable("busy", where="w", expected="e", got="g", fix="f")
    error.__cause__ = Exception()
    error.__cause__.response = SimpleNamespace(headers={"Retry-After": given})  # type: ignore[attr-defined]
    assert hub_module._seconds_to_wait(error) == seconds


def test_date_of_a_time_to_wait_is_counted_from_now() -> None:
    error = ServiceUnreachable("busy", where="w", expected="e", got="g", fix="f")
    error.__cause__ = Exception()
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    error.__cause__.response = SimpleNamespace(headers={"Retry-After": date})  # type: ignore[attr-defined]
    assert 1800 < (hub_module._seconds_to_wait(error) or 0) <= 3601


def test_authority_of_a_company_is_named() -> None:
    with pytest.raises(ServiceUnreachable, match="cannot be reached") as caught, hub_errors("a/b"):
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    assert caught.value.fix.startswith("set SSL_CERT_FILE to a file")


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_rate_limit_that_lasts_is_named_and_may_be_retried(waits: list[float]) -> None:
    with pytest.raises(ServiceUnreachable, match="limits the rate of requests") as caught:
        hub_commit("acme/limited-always", None)
    assert waits == [8]  # and not the hour that the second answer names
    assert caught.value.is_retryable
    assert "429" in caught.value.got


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_limit_of_the_hubs_own_header_is_waited_for(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PATIENCE_SECONDS", 299.5)
    with pytest.raises(ServiceUnreachable, match="limits the rate"):
        hub_commit("acme/window", None, HubKind.DATASET)
    assert waits == []
    monkeypatch.setattr(hub_module, "PATIENCE_SECONDS", 330.0)
    with pytest.raises(ServiceUnreachable, match="limits the rate"):
        hub_commit("acme/window", None, HubKind.DATASET)
    assert waits == [300]


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("acme/expired", "does not accept the token: it is wrong or has expired", "HF_TOKEN"),
        ("acme/gated", "only for users who accepted its conditions", "/acme/gated, then log in"),
        ("acme/forbidden", "the token does not permit to read", "a token that may read it"),
    ],
)
def test_what_the_hub_refuses_is_told_from_a_name_that_does_not_exist(
    name: str, message: str, fix: str
) -> None:
    with pytest.raises(ModelSourceError, match=message) as caught:
        model_fingerprint(ModelConfig(source=name))
    assert fix in caught.value.fix
    with pytest.raises(DataSourceError, match=message):
        hub_commit(name, None, HubKind.DATASET)


def test_an_error_of_the_hub_is_found_in_that_of_a_library() -> None:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    request = httpx.Request("GET", "https://hub/api")
    busy = HfHubHTTPError("429", response=httpx.Response(429, request=request))
    wrapped = OSError("We couldn't connect")
    wrapped.__cause__ = busy
    with pytest.raises(ServiceUnreachable, match="limits the rate"), hub_errors("acme/toy"):
        raise ModelSourceError("the model cannot be loaded") from wrapped
    with pytest.raises(ModelSourceError, match="cannot be loaded"), hub_errors("acme/toy"):
        raise ModelSourceError("the model cannot be loaded") from OSError("no such file")


@pytest.mark.loopback
def test_unreachable_hub_gives_one_sentence_and_the_offline_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(ServiceUnreachable, match="Hub cannot be reached") as caught:
        load_model(ModelConfig(source="acme/toy"))
    assert "HF_HUB_OFFLINE=1" in caught.value.fix
    assert "hf download acme/toy" in caught.value.fix


def test_hub_error_without_words_is_named_and_may_be_retried() -> None:
    import httpx

    with (
        pytest.raises(ServiceUnreachable, match="ConnectTimeout") as caught,
        hub_errors("owner/name"),
    ):
        raise httpx.ConnectTimeout("")
    assert caught.value.is_retryable
