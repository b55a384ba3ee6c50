"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flows.cli.console import DEBUG
from schemas.records.stages import Stage

Function = TypeVar("Function", bound=Callable[..., Any])


def _remember_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().meta[DEBUG] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_remember_debug,
    help="Show tracebacks and warnings of libraries.",
)
json_option = click.option(
    "--json", "is_json", is_flag=True, help="Print the result as one JSON document."
)
refresh_option = click.option(
    "--refresh",
    multiple=True,
    type=click.Choice([stage.value for stage in Stage]),
    metavar="STAGE",
    help="Compute STAGE, e.g. train_model, again even if nothing changed. Can be repeated.",
)


def config_options(function: Function) -> Function:
    """Add -c, --set and --debug to a command; its function gets `config_path` and `overrides`."""
    options = (
        click.option(
            "-c",
            "--config",
            "config_path",
            type=click.Path(path_type=Path),
            help="Configuration file (.yaml, .yml or .toml).  [default: built-in defaults: the demo's "
            "data and model, one epoch]",
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override a setting, e.g. training.learning_rate=1e-4. Can be repeated.",
        ),
        debug_option,
    )
    for option in reversed(options):
        function = option(function)
    return function
