"""`sft-flow notify` where there is no server; with one: tests/integration/test_notifications.py."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli.main import main
from flows.services.automations import check_address
from schemas.errors import ConfigError


@pytest.mark.parametrize("arguments", [(), ("--list", "--remove"), ("--slack", "a", "--list")])
def test_notify_wants_one_thing_at_a_time(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["notify", *arguments])
    assert done.exit_code == 2
    assert "use exactly one of --webhook URL, --slack URL, --list and --remove" in done.output


def test_notify_without_a_server_says_how_to_get_one() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        done = CliRunner().invoke(main, ["notify", "--webhook", "https://host/hook"])
    assert done.exit_code == 2
    assert "no Prefect server is configured" in done.output
    assert "Fix: run `sft-flow up`" in done.output


@pytest.mark.loopback
def test_notify_says_that_the_server_does_not_answer() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        done = CliRunner().invoke(main, ["notify", "--list"])
    assert done.exit_code == 3
    assert "Where: http://127.0.0.1:9/api" in done.output


@pytest.mark.parametrize("address", ["hooks.slack.com/token", "ftp://host/token", "https:///token"])
def test_address_of_a_webhook_is_checked_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_address(address)
    assert "token" not in str(caught.value)
