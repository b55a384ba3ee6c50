"""`sft-flow clean`: remove old outputs from the work directory."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click

from flows.cli.console import echo, keep_stdout_clean, print_json, print_table, quiet_libraries
from flows.cli.options import config_options, json_option
from schemas.config.storage import StorageConfig
from tasks.engine.wording import mebibytes

DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}
GIGABYTES = {"MB": 1e-3, "GB": 1.0, "TB": 1e3}


def read_quantity(units: Mapping[str, float], example: str) -> Callable[..., float | None]:
    """Make a callback that reads a number above 0 with a unit, e.g. 30d."""

    def _read(
        _context: click.Context, _parameter: click.Parameter, text: str | None
    ) -> float | None:
        if text is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text.strip())
        known = {name.lower(): size for name, size in units.items()}
        factor = known.get(match[2].lower()) if match else None
        if not match or factor is None or not float(match[1]):
            names = ", ".join(units)
            raise click.BadParameter(
                f"{text!r} is not a number above 0 with a unit ({names}), such as {example}"
            )
        return float(match[1]) * factor

    return _read


@click.command()
@click.option(
    "--older-than",
    "max_age_days",
    callback=read_quantity(DAYS, "30d"),
    metavar="AGE",
    help="Remove outputs not used, and checkpoints not written, for longer than AGE, e.g. 12h, 30d or 8w.  [default: storage.max_age_days]",
)
@click.option(
    "--max-size",
    "max_size_gb",
    callback=read_quantity(GIGABYTES, "50GB"),
    metavar="SIZE",
    help="Remove outputs not used for longest until the rest fits, e.g. 500MB or 50GB.  "
    "[default: storage.max_size_gb]",
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask.")
@config_options
@json_option
def clean(
    max_age_days: float | None,
    max_size_gb: float | None,
    is_dry_run: bool,
    is_confirmed: bool,
    config_path: Path | None,
    overrides: Sequence[str],
    is_json: bool,
) -> None:
    """Remove old outputs of stages, and what killed processes left, from SFT_HOME.

    Outputs that a version with an alias, an unfinished training or a run in progress needs are
    kept. What is missing later is computed again.
    """
    from schemas.config.file import load_config

    configured = load_config(config_path, overrides).storage
    limits = StorageConfig(
        max_age_days=max_age_days or configured.max_age_days,
        max_size_gb=max_size_gb or configured.max_size_gb,
    )
    quiet_libraries()
    from tasks.storage.clean import clean as clean_work_directory

    with keep_stdout_clean():
        planned = clean_work_directory(limits, is_dry_run=True)
    if not is_dry_run and planned.removed and not is_confirmed:
        _ask(len(planned.removed), planned.n_freed_bytes, planned.work_directory)
    done = planned
    if not is_dry_run:
        with keep_stdout_clean():
            done = clean_work_directory(limits)
    if is_json:
        print_json(done.model_dump(mode="json"))
        return
    rows = [(one.path, mebibytes(one.n_bytes), one.reason) for one in done.removed]
    if rows:
        print_table(("removed" if not is_dry_run else "would be removed", "size", "why"), rows)
    verb = "would be freed" if is_dry_run else "freed"
    kept = "no limit is set, so that old outputs are kept (--older-than, --max-size)"
    if done.n_kept_bytes is not None:
        of_these = f"of which {mebibytes(done.n_needed_bytes or 0)} are needed"
        kept = f"outputs of {mebibytes(done.n_kept_bytes)} are kept, {of_these}"
    echo(f"{mebibytes(done.n_freed_bytes)} {verb} in {done.work_directory}; {kept}")


def _ask(n_removed: int, n_bytes: int, folder: str) -> None:
    """Ask on a terminal; elsewhere --yes is required."""
    question = f"Remove {n_removed} outputs and files ({mebibytes(n_bytes)}) from {folder}?"
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Repeat with --yes, or with --dry-run to see them.")
    click.confirm(question, abort=True, err=True)
