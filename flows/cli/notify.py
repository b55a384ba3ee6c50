"""`sft-flow notify`: call a webhook for failed runs, rejected data and new champions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, print_table, quiet_libraries
from flows.cli.options import debug_option, json_option

if TYPE_CHECKING:
    from flows.services.automations import Subscription

ON_REQUEST = ("refused", "skipped")


@click.command(short_help="Send notifications to a webhook or Slack.")
@click.option("--webhook", metavar="URL", help="Webhook that receives a POST with a JSON document.")
@click.option("--slack", metavar="URL", help="Webhook of Slack, Mattermost or similar.")
@click.option(
    "--on",
    "requested",
    type=click.Choice(ON_REQUEST),
    multiple=True,
    help="Also send refused models or skipped retrains. Can be repeated.",
)
@click.option("--list", "is_list", is_flag=True, help="List the active notifications.")
@click.option("--remove", "is_remove", is_flag=True, help="Remove all notifications.")
@json_option
@debug_option
def notify(
    webhook: str | None,
    slack: str | None,
    requested: tuple[str, ...],
    is_list: bool,
    is_remove: bool,
    is_json: bool,
) -> None:
    """Send failed runs, rejected data and new champions to a webhook or Slack.

    Creates automations on the Prefect server. Running it again replaces the earlier notifications.
    """
    _require_one(webhook, slack, is_list, is_remove)
    quiet_libraries()
    with keep_stdout_clean():
        from flows.services.automations import list_subscriptions, subscribe, unsubscribe
        from flows.services.occasions import ALWAYS, Occasion

        if is_list:
            found = list_subscriptions()
        elif is_remove:
            found = unsubscribe()
        else:
            occasions = {*ALWAYS, *map(Occasion, requested)}
            found = subscribe(webhook or slack or "", occasions, is_slack=bool(slack))
    _show(found, is_json=is_json)


def _require_one(*asked: str | bool | None) -> None:
    if sum(map(bool, asked)) != 1:
        raise click.UsageError("use exactly one of --webhook URL, --slack URL, --list and --remove")


def _show(found: list[Subscription], *, is_json: bool) -> None:
    if is_json:
        print_json([one.model_dump(mode="json") for one in found])
    elif not found:
        echo("no notifications")
    else:
        rows = [[one.automation, one.change.value, ", ".join(one.events)] for one in found]
        print_table(["automation", "", "on"], rows)
