"""`sft-flow`: the command line. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flows._console import (
    EXIT_FAILED,
    GuardedGroup,
    is_debug,
    keep_stdout_clean,
    print_json,
    print_table,
    quiet_libraries,
)
from flows._export_command import add_commands as add_export_command
from flows._history_command import add_commands as add_history_command
from flows._local_commands import add_commands as add_local_commands
from flows._notification_commands import add_commands as add_notification_command
from flows._options import config_options, debug_option, json_option, refresh_option
from flows._registry_commands import add_commands as add_registry_commands
from schemas.stages import Stage
from tasks.engine.home import quiet_environment

EXIT_REFUSED = 1
COLLECT_AFTER_OBJECTS = 50_000


@click.group(cls=GuardedGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sft-flow", prog_name="sft-flow")
@debug_option
def main() -> None:
    """Turn a dataset into a promoted model: checked, cached, measured, registered.

    Outputs lie in SFT_HOME (default: .sft in the current folder). Exit codes: 0 done, accepted
    or promoted; 1 a gate said no; 2 usage, configuration or unreadable input; 3 the run failed.
    """
    quiet_environment()
    # By default every 700 new objects are looked at, which is a fifth of what a cached run costs,
    # and all of them once more as the process ends.
    gc.set_threshold(COLLECT_AFTER_OBJECTS)
    atexit.register(gc.freeze)


@main.command()
@config_options
@refresh_option
@click.option("--plain", "is_plain", is_flag=True, help="Plain lines instead of the screen.")
@json_option
def run(
    config_path: Path | None,
    overrides: Sequence[str],
    refresh: Sequence[str],
    is_plain: bool,
    is_json: bool,
) -> None:
    """Run every stage that is not cached, up to the registered and judged model."""
    from schemas.config_file import load_config

    config = load_config(config_path, overrides)
    quiet_libraries()
    from flows._run_log import short_failures
    from flows._run_screen import run_screen
    from flows.services.temporary_server import prefect_api

    with (
        keep_stdout_clean(),
        run_screen(is_wanted=not is_plain) as screen,
        prefect_api(),
        short_failures(is_wanted=not is_debug()),
    ):
        from flows.train_sft import train_sft

        if screen:
            screen.adopt_logging()
        reference = train_sft(config, tuple(Stage(name) for name in refresh))
    from flows._show import show_report
    from flows._status import open_report
    from tasks.engine.cache import locate

    report = open_report(locate(reference, "report.json").parent)
    if is_json:
        print_json(report)
    else:
        show_report(report, locate(reference, "report.html"))
    if report["decision"] == "refuse" and report["mode"] == "enforce":
        click.get_current_context().exit(EXIT_REFUSED)


@main.command()
@config_options
@refresh_option
@json_option
def plan(
    config_path: Path | None, overrides: Sequence[str], refresh: Sequence[str], is_json: bool
) -> None:
    """Say which stages would run and why, and how long the training would take."""
    from schemas.config_file import load_config

    config = load_config(config_path, overrides)
    quiet_libraries()
    from flows._plan import make_plan
    from flows._show import show_plan

    with keep_stdout_clean():
        planned = make_plan(config, tuple(Stage(name) for name in refresh))
    if is_json:
        print_json(planned.model_dump(mode="json"))
    else:
        show_plan(planned)


@main.command()
@click.argument("source", required=False)
@click.option(
    "--only",
    type=click.Choice(["rows", "set"]),
    help="rows: look at row rules alone; set (the default): at row and set rules.",
)
@click.option(
    "--tokens", "has_tokens", is_flag=True, help="Render and tokenise the rows too: token rules."
)
@click.option(
    "--fix",
    "repaired",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT",
    help="Write the kept rows to OUT (.jsonl), repaired where nothing is lost.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where report.json, report.html and quarantine.jsonl go; default: checks in SFT_HOME.",
)
@click.option(
    "--schema", "is_schema", is_flag=True, help="Print the JSON Schema of the accepted formats."
)
@config_options
@json_option
def check(
    is_schema: bool, config_path: Path | None, overrides: Sequence[str], **asked: Any
) -> None:
    """Put SOURCE (a path, pattern or name) through the data gate alone."""
    from flows._check import print_schema, run_check

    if is_schema:
        print_schema()
    elif not run_check(config_path, overrides, **asked):
        click.get_current_context().exit(EXIT_REFUSED)


@main.command()
@click.option(
    "--sweep",
    "sweep_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File with the search space: .yaml or .toml.",
)
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="KEY=VALUES",
    help="What to vary, e.g. learning_rate=1e-5..1e-3:log or lora.r=[8, 16]; may be repeated.",
)
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all, earlier ones included.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Start no trial after so many seconds.",
)
@config_options
@json_option
def sweep(config_path: Path | None, overrides: Sequence[str], **asked: Any) -> None:
    """Try settings of the training and keep those with the lowest validation loss."""
    from flows._sweep import run_sweep

    run_sweep(config_path, overrides, **asked)


@main.command()
@click.argument("name", required=False)
@config_options
@json_option
def status(
    name: str | None, config_path: Path | None, overrides: Sequence[str], is_json: bool
) -> None:
    """Show the last run and the champion; of NAME: who holds which alias, with figures and data."""
    from schemas.config_file import load_config

    names = (f"registry.name={name}",) if name else ()
    config = load_config(config_path, (*overrides, *names))
    quiet_libraries()
    if name:
        from flows._registry_status import read_registry_status, show_registry_status

        with keep_stdout_clean():
            registered = read_registry_status(config.registry)
        show_registry_status(registered, is_json=is_json)
        return
    from flows._show import show_status
    from flows._status import read_status

    with keep_stdout_clean():
        found = read_status(config)
    if is_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_status(found)


@main.command()
@click.option("--open", "is_opened", is_flag=True, help="Open the page in a browser.")
@json_option
@debug_option
def report(is_opened: bool, is_json: bool) -> None:
    """Tell where the newest report lies."""
    from flows._status import read_report

    page, document = read_report()
    if is_json:
        print_json({"path": str(page), **document})
    else:
        click.echo(str(page))
    if is_opened:
        click.launch(page.as_uri())


@main.command()
@config_options
@json_option
def doctor(config_path: Path | None, overrides: tuple[str, ...], is_json: bool) -> None:
    """Examine this machine: is everything here that a run needs?"""
    from schemas.config_file import load_config

    config = load_config(config_path, overrides)
    quiet_libraries()
    from flows.doctor.examine import examine
    from flows.doctor.finding import Health

    with keep_stdout_clean():
        findings = examine(config)
    if is_json:
        print_json([finding.model_dump(mode="json") for finding in findings])
    else:
        rows = [[item.health.value, item.topic, item.detail, item.mend] for item in findings]
        print_table(["", "what", "found", "how to mend"], rows)
    if any(finding.health is Health.PROBLEM for finding in findings):
        click.get_current_context().exit(EXIT_FAILED)


add_registry_commands(main)
add_export_command(main)
add_notification_command(main)
add_local_commands(main)
add_history_command(main)
