"""`sft-flow doctor`: check that this machine has what a run needs."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli.console import (
    EXIT_FAILED,
    keep_stdout_clean,
    print_json,
    print_table,
    quiet_libraries,
)
from flows.cli.options import config_options, json_option


@click.command()
@config_options
@json_option
def doctor(config_path: Path | None, overrides: tuple[str, ...], is_json: bool) -> None:
    """Check that this machine has everything a run needs.

    Checks versions, servers, stores, aliases, disk space and device, and shows how to fix problems.
    """
    from schemas.config.file import load_config

    config = load_config(config_path, overrides)
    quiet_libraries()
    from flows.doctor.examine import examine
    from flows.doctor.finding import Health

    with keep_stdout_clean():
        findings = examine(config)
    if is_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    else:
        rows = [[item.health.value, item.topic, item.detail, item.fix] for item in findings]
        print_table(["", "check", "found", "fix"], rows)
    if any(finding.health is Health.PROBLEM for finding in findings):
        click.get_current_context().exit(EXIT_FAILED)
