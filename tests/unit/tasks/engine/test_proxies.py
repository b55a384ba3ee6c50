from __future__ import annotations

import os
import sys

import pytest

from schemas.errors import ConfigError
from tasks.engine.proxies import check_proxies, is_untrusted


@pytest.mark.parametrize(
    ("chosen", "fix"),
    [
        ({"ALL_PROXY": "socks://127.0.0.1:1080"}, "socks5:// in place of socks://"),
        ({"https_proxy": '"http://proxy:80"'}, "correct https_proxy"),
        ({"HTTP_PROXY": "http://proxy:port"}, "correct HTTP_PROXY"),
    ],
)
def test_proxy_that_cannot_be_used_is_named(
    chosen: dict[str, str], fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", chosen)
    with pytest.raises(ConfigError, match="proxy of the environment") as caught:
        check_proxies()
    assert fix in caught.value.fix
    assert caught.value.where == next(iter(chosen))


def test_package_that_a_socks_proxy_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"all_proxy": "socks5h://ada:secret@127.0.0.1:1080"})
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigError) as caught:
        check_proxies()
    assert caught.value.fix.startswith("pip install 'httpx[socks]'")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "chosen", [{}, {"ALL_PROXY": ""}, {"HTTP_PROXY": "proxy:3128", "https_proxy": "http://a:b@c:1"}]
)
def test_proxy_of_http_can_be_used(chosen: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", chosen)
    assert check_proxies() is None


def test_certificate_of_a_company_is_known_from_the_text() -> None:
    assert is_untrusted("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    assert not is_untrusted("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
