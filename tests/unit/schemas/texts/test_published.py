from __future__ import annotations

import pytest

from schemas.texts import _published as published


@pytest.mark.parametrize(
    "digits", ["2125550199", "15550100", "12025550173", "02079460958", "447700900123"]
)
def test_numbers_for_fiction(digits: str) -> None:
    assert published.is_published_phone_number(digits)


@pytest.mark.parametrize("digits", ["2125551199", "12025550273", "02079450958", "447700800123"])
def test_other_phone_numbers(digits: str) -> None:
    assert not published.is_published_phone_number(digits)


@pytest.mark.parametrize(
    "host", ["example.com", "mail.example.org", "example.co.uk", "a.test", "localhost"]
)
def test_reserved_hosts(host: str) -> None:
    assert published.is_reserved_host(host)


@pytest.mark.parametrize("host", ["firma.se", "examples.com", "test.se", "example.firma.se"])
def test_other_hosts(host: str) -> None:
    assert not published.is_reserved_host(host)


def test_cards_and_accounts() -> None:
    assert published.is_published_card("4242424242424242")
    assert not published.is_published_card("4539148803436467")
    assert published.is_published_account("DE89370400440532013000")
    assert not published.is_published_account("GB33BUKB20201555555555")
    assert published.is_published_social_security_number("078-05-1120")
    assert not published.is_published_social_security_number("078-05-1121")
