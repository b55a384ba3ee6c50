"""`sft-flow promote` and `rollback`: move the aliases of the registry by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, quiet_libraries
from flows.cli.options import config_options, json_option
from schemas.config.registry import RegistryConfig


def read_registry(name: str, config_path: Path | None, overrides: Sequence[str]) -> RegistryConfig:
    """Return the registry section of the configuration, with the name of the command line."""
    from schemas.config.file import load_config

    return load_config(config_path, (*overrides, f"registry.name={name}")).registry


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1), required=False)
@click.option("--reason", default="", help="Reason, recorded on the version.")
@click.option(
    "--force",
    "is_forced",
    is_flag=True,
    help="Promote even if the gates or a reviewer refused the version, or no gate ran; requires --reason.",
)
@config_options
@json_option
def promote(
    name: str,
    version: int | None,
    reason: str,
    is_forced: bool,
    config_path: Path | None,
    overrides: Sequence[str],
    is_json: bool,
) -> None:
    """Make VERSION of NAME the champion.

    Without VERSION, promote the challenger, the last evaluated version.
    """
    _require_reason(reason, is_forced=is_forced)
    registry = read_registry(name, config_path, overrides)
    quiet_libraries()
    from flows.services.temporary_server import prefect_api

    with keep_stdout_clean(), prefect_api():
        from flows.promote_version import promote_version

        done = promote_version(registry, version, reason, is_forced)
    _show(done.model_dump(mode="json"), is_json=is_json)


@click.command()
@click.argument("name")
@click.option("--reason", default="", help="Reason, recorded on the version.")
@config_options
@json_option
def rollback(
    name: str, reason: str, config_path: Path | None, overrides: Sequence[str], is_json: bool
) -> None:
    """Restore the previous champion of NAME. Run it again to undo it."""
    registry = read_registry(name, config_path, overrides)
    quiet_libraries()
    from flows.services.temporary_server import prefect_api

    with keep_stdout_clean(), prefect_api():
        from flows.promote_version import roll_back

        done = roll_back(registry, reason)
    _show(done.model_dump(mode="json"), is_json=is_json)


def _require_reason(reason: str, *, is_forced: bool) -> None:
    if is_forced and not reason:
        raise click.UsageError("--force requires --reason; the reason is recorded on the version")


def _show(done: dict[str, object], *, is_json: bool) -> None:
    if is_json:
        print_json(done)
        return
    name, version, alias = done["name"], done["version"], done["alias"]
    former = done["former_version"]
    before = f" (before: version {former})" if former else ""
    echo(f"{name} version {version} is {alias}{before}")
