"""`sft-flow history`: every evaluated version and rejected dataset of a name on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, quiet_libraries
from flows.cli.options import config_options, json_option
from flows.cli.promote import read_registry


@click.command()
@click.argument("name")
@click.option("--open", "is_opened", is_flag=True, help="Open it in a browser.")
@config_options
@json_option
def history(
    name: str, is_opened: bool, config_path: Path | None, overrides: Sequence[str], is_json: bool
) -> None:
    """Write one page about NAME, and print its path.

    It shows every evaluated version and every rejected dataset of NAME: scores, data, decisions.
    """
    registry = read_registry(name, config_path, overrides)
    quiet_libraries()
    from tasks.registry.history import read_history
    from tasks.report.history_page import write_history

    with keep_stdout_clean():
        found = read_history(registry)
        path = write_history(found)
    if is_json:
        print_json({"path": str(path), **found.model_dump(mode="json")})
    else:
        echo(str(path))
    if is_opened:
        click.launch(path.as_uri())
