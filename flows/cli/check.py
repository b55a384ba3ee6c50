"""`sft-flow check`: the data gate from the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli.console import (
    EXIT_REFUSED,
    echo,
    keep_stdout_clean,
    print_json,
    print_table,
    quiet_libraries,
)
from flows.cli.options import config_options, json_option
from schemas.rule_ids import RuleResult
from tasks.engine.wording import number

if TYPE_CHECKING:
    from schemas.config.run import DataConfig, DataSource

MAX_NAME = 80
MAX_FIELDS = 20


def print_schema() -> None:
    """Print the JSON Schema of the accepted formats."""
    from schemas.rows.json_schema import accepted_formats_schema

    print_json(accepted_formats_schema())


def run_check(
    config_path: Path | None,
    overrides: Sequence[str],
    *,
    source: str | None,
    only: str | None,
    has_tokens: bool,
    repaired: Path | None,
    output: Path | None,
    is_json: bool,
) -> bool:
    """Check a source, write the report and print the verdict.

    Args:
        config_path: Configuration file, if any.
        overrides: Single settings.
        source: Path, pattern or name, also one in data.sources; None: all that is configured.
        only: rows or set: which rules to check, without those on tokens.
        has_tokens: Whether to check tokens too.
        repaired: File for the kept rows, repaired where nothing is lost.
        output: Folder for the report.
        is_json: Print one JSON document and nothing else.

    Returns:
        True when the data is accepted.

    Raises:
        UsageError: Options contradict each other.
    """
    from schemas.config.file import load_config
    from schemas.config.run import DataSource

    if only and has_tokens:
        raise click.UsageError("--only and --tokens contradict each other; leave one out")
    config = load_config(config_path, overrides)
    rows = _chosen_rows(source, config.data, is_configured=config_path is not None)
    quiet_libraries()
    from flows.cli.screen import run_screen
    from tasks.dataset.check_file import CheckOptions, CheckVerdict, Scope, check_file
    from tasks.report.data_page import write_data_page
    from tasks.sources.mixture import errors_of

    several = {"": rows} if isinstance(rows, DataSource) else rows
    folder = output or default_folder(
        rows.source if isinstance(rows, DataSource) else "+".join(rows)
    )
    for name, one in several.items():
        with errors_of(name) if name else nullcontext():
            _refuse_overwriting(one, repaired, folder)
    scope = Scope.TOKENS if has_tokens else Scope(only or "set")
    with keep_stdout_clean(), run_screen(has_stages=False):
        report = check_file(rows, config, CheckOptions(scope, repaired, folder))
        page = write_data_page(report, folder)
    if is_json:
        print_json(report.model_dump(mode="json"))
    else:
        show_check(report, page, repaired)
    return report.verdict == CheckVerdict.ACCEPTED


def _chosen_rows(
    source: str | None, data: DataConfig, *, is_configured: bool
) -> DataSource | dict[str, DataSource]:
    """Require a source: an unset variable must not check something else and accept it."""
    if source is None:
        if not is_configured:
            raise click.UsageError("pass a SOURCE, or a configuration with -c")
        return data.origin
    if not source.strip():
        raise click.UsageError("SOURCE is empty; is a variable unset?")
    if isinstance(data.origin, dict) and source in data.origin:
        return data.origin[source]
    return data.source.model_copy(update={"source": source})


def default_folder(source: str) -> Path:
    """Return `checks/<name>` in the work directory, the same for the same source."""
    from tasks.engine.home import work_directory
    from tasks.engine.redaction import without_secrets

    stem = Path(without_secrets(source)).name
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._")[:MAX_NAME]
    return work_directory() / "checks" / (name or "source")


def _refuse_overwriting(source: DataSource, repaired: Path | None, folder: Path) -> None:
    """Refuse to overwrite the rows, or to write where the next check would read."""
    from schemas.errors import ConfigError
    from tasks.sources.source import resolve_source

    files = [path.resolve() for path in resolve_source(source).files]
    has_pattern = not Path(source.source.removeprefix("file://")).expanduser().is_file()
    folders = {path.parent for path in files} if has_pattern else set()
    targets = [("--fix", repaired), ("--output", folder / "report.json")]
    for option, target in targets:
        if target and (target.resolve() in files or target.resolve().parent in folders):
            raise ConfigError(
                f"{option} would write into the data that is checked",
                where=str(target),
                expected="another path",
                got=source.source,
                fix=f"pass another path to {option}",
            )
    if repaired and repaired.resolve() == (folder / "quarantine.jsonl").resolve():
        raise ConfigError(
            "--fix and the report would write the same file",
            where=str(repaired),
            fix="pass another file to --fix",
        )


def show_check(report: Any, page: Path, repaired: Path | None = None) -> None:
    """Print the verdict of the data gate.

    Args:
        report: A `CheckReport`.
        page: The HTML page.
        repaired: File with the kept rows, if one was written.
    """
    found = ", ".join(f"{count} {name}" for name, count in report.formats.items()) or "none"
    echo(f"Data {str(report.verdict).upper()}: {report.n_rows:,} rows, formats: {found}")
    echo(f"Kept {report.n_kept_rows:,}, quarantined {report.n_quarantined_rows:,}.")
    for name, count in report.conversions.items():
        echo(f"  {name.replace('_', ' ')}: {count:,}")
    if report.unused_fields:
        names = [f"{name} {count:,}" for name, count in report.unused_fields.items()]
        more = f" and {len(names) - MAX_FIELDS:,} more" if len(names) > MAX_FIELDS else ""
        echo(f"Rows with fields that are not used: {', '.join(names[:MAX_FIELDS])}{more}")
    if report.rules:
        echo()
        print_table(
            ["rule", "severity", "verdict", "rows", "observed", "limit", "where and how to fix"],
            [_rule_row(rule) for rule in report.rules],
        )
        echo()
    echo(f"Report: {page}")
    if repaired:
        echo(f"Kept rows: {repaired}")


def _rule_row(rule: RuleResult) -> list[str]:
    lines = [f"{place.file}:{place.line} {place.detail}" for place in rule.examples]
    numbers = [number(rule.observed), number(rule.limit)]
    notes = "\n".join([*lines, *([rule.fix] if rule.fix else [])])
    return [rule.id, rule.severity.value, rule.verdict.value, str(rule.n_rows), *numbers, notes]


@click.command()
@click.argument("source", required=False)
@click.option(
    "--only",
    type=click.Choice(["rows", "set"]),
    help="rows: row rules only; set: row and set rules.  [default: set]",
)
@click.option(
    "--tokens", "has_tokens", is_flag=True, help="Also check token rules; needs the model."
)
@click.option(
    "--fix",
    "repaired",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT",
    help="Write the kept rows to OUT (.jsonl), with lossless repairs.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder for the reports and quarantine.jsonl.  [default: a folder in SFT_HOME/checks]",
)
@click.option(
    "--schema", "is_schema", is_flag=True, help="Print the JSON Schema of the accepted formats."
)
@config_options
@json_option
def check(
    is_schema: bool, config_path: Path | None, overrides: Sequence[str], **asked: Any
) -> None:
    """Validate a dataset, without training.

    SOURCE is a path, pattern, address or name; by default the source of the configuration.
    """
    if is_schema:
        print_schema()
    elif not run_check(config_path, overrides, **asked):
        click.get_current_context().exit(EXIT_REFUSED)
