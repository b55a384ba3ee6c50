"""Output of commands: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import click

from flows.services.prefect_settings import settings_error
from flows.services.signals import Terminated
from schemas.errors import SftFlowError, TrainingInterrupted, is_disk_full, restored_interruption
from schemas.redaction import cleanse, redact, visible

EXIT_REFUSED = 1
EXIT_FAILED = 3
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
EXIT_TERMINATED = 143
"""128 + SIGTERM."""
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE."""
PANIC = "PanicException"
"""What a library in Rust raises where it gives up, such as polars or tokenizers; no `Exception`."""
DEBUG = "sft_flow.debug"
MIN_WIDTH, MAX_WIDTH = 60, 160
LONG_WORD = 24
"""Longer words, mostly paths, may be wrapped, except in the first column."""


class GuardedGroup(click.Group):
    """Command group that turns errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and turn its errors into a message and an exit code."""
        try:
            with restored_interruption():
                return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = redact(error.message)
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except (KeyboardInterrupt, TrainingInterrupted) as error:
            echo("Interrupted. Finished work is kept; the next run resumes here.", err=True)
            ctx.exit(EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED)
        except BrokenPipeError:
            # `sft-flow … | head`: the reader has closed the pipe.
            _discard_output()
            ctx.exit(EXIT_BROKEN_PIPE)
        except BaseException as found:
            if not (isinstance(found, Exception) or type(found).__name__ == PANIC):
                raise
            cleanse(found)
            if is_debug(ctx):
                traceback.print_exc()
            shown = _named(ctx, found) or found
            echo(describe(shown), err=True)
            ctx.exit(shown.exit_code if isinstance(shown, SftFlowError) else EXIT_FAILED)


def _named(context: click.Context, error: BaseException) -> SftFlowError | None:
    """Make the error for what a library raised; None where it is not known."""
    known = _missing_extra(context, error) or _full_disk(error) or _full_memory(error)
    return known or settings_error(error)


def _missing_extra(context: click.Context, error: BaseException) -> SftFlowError | None:
    """Make the error for an extra that a command needs; None for other errors."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    from tasks.engine.extras import missing_extra

    return missing_extra(error.name, f"`sft-flow {context.invoked_subcommand}`")


def _full_disk(error: BaseException) -> SftFlowError | None:
    """Make the error for a full disk; None for other errors."""
    if isinstance(error, SftFlowError) or not is_disk_full(error):
        return None
    from tasks.engine.full_disk import name_full_disk

    return name_full_disk(error)


def _full_memory(error: BaseException) -> SftFlowError | None:
    """Make the error for memory that ran out; None for other errors."""
    if not isinstance(error, MemoryError):
        return None
    return SftFlowError(
        "memory ran out",
        where="this process",
        fix="end other programs, raise the limit (ulimit -v, or that of the container), or use a machine "
        "with more; finished work is kept",
    )


def describe(error: BaseException) -> str:
    """Format an error: all parts of an `SftFlowError`, one line for any other."""
    if isinstance(error, SftFlowError):
        return str(error)
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {redact(first_line)}  (add --debug for the traceback)"


def is_debug(context: click.Context | None = None) -> bool:
    """Return whether --debug was given; without a context, of the current one."""
    context = context or click.get_current_context(silent=True)
    return bool(context and context.find_root().meta.get(DEBUG))


def quiet_libraries() -> None:
    """Turn off log messages and warnings of libraries, here and in child processes."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if is_debug() or sys.warnoptions:
        return
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.simplefilter("ignore")
    logging.captureWarnings(False)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # one line per retry


@contextmanager
def keep_stdout_clean() -> Iterator[None]:
    """Redirect what libraries print to standard error."""
    with redirect_stdout(sys.stderr):
        yield


def echo(text: str = "", *, err: bool = False) -> None:
    """Print text whose names come from data and files: nothing in it is obeyed by a terminal.

    Args:
        text: The text.
        err: Print on standard error; what cannot be written there is lost.

    Raises:
        SftFlowError: Standard output cannot be written, for instance on a full disk.
    """
    try:
        click.echo(visible(text), err=err)  # noqa: TID251 - the one place
    except BrokenPipeError:
        raise
    except OSError as error:
        if err:
            return
        _discard_output()
        raise SftFlowError(
            "the output cannot be written",
            where="standard output",
            got=error.strerror or str(error),
            fix="write it to a disk with space; finished work is kept",
        ) from error


def open_standard_streams() -> None:
    """Replace streams that the caller has closed, as daemons do, by ones that lead nowhere.

    A file that is opened later would get the number of a closed one, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        nowhere = os.open(os.devnull, os.O_RDWR)
        setattr(sys, name, os.fdopen(nowhere, "r" if number == 0 else "w", encoding="utf-8"))


def _discard_output() -> None:
    """Write nothing more to standard output, also at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    # What is written out is written as JSON escapes it.
    echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table: with rich on a terminal, as plain columns elsewhere."""
    rows = [[visible(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich_table(headings, rows, title)
        return
    if title:
        echo(title)
    for line in plain_table(headings, rows, terminal_width()):
        echo(line)


def terminal_width() -> int:
    """Return the width of the terminal, between `MIN_WIDTH` and `MAX_WIDTH`."""
    return max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((100, 24)).columns))


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Format a table no wider than `width` characters; long cells are wrapped between words.

    If even the longest words do not fit side by side, each row becomes several lines.
    """
    natural = [
        max(len(line) for cell in column for line in (cell or " ").splitlines())
        for column in zip(headings, *rows, strict=True)
    ]
    widths = _fit(natural, _least(headings, rows), width - 2 * (len(headings) - 1))
    if widths is None:
        return _stacked(headings, rows)
    lines: list[str] = []
    for row in [list(headings), ["-" * size for size in widths], *rows]:
        cells = [_wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
        for number in range(max(len(cell) for cell in cells)):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = [part.ljust(size) for part, size in zip(parts, widths, strict=True)]
            lines.append("  ".join(padded).rstrip())
    return lines


def _least(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the minimum width of each column: its longest word, up to `LONG_WORD`."""
    longest = [
        max((len(word) for cell in column for word in cell.split()), default=1)
        for column in zip(headings, *rows, strict=True)
    ]
    return [longest[0], *(min(size, LONG_WORD) for size in longest[1:])]


def _fit(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Shrink the widest columns until all fit; None if that is impossible."""
    if sum(least) > room:
        return None
    widths = list(natural)
    while sum(widths) > room:
        spare = [size if size > low else 0 for size, low in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths


def _stacked(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Format each row as one line per cell, with an empty line between rows."""
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        for heading, cell in zip(headings, row, strict=True):
            text = " ".join(cell.split())
            lines += [f"{heading}: {text}" if heading else text] if text else []
    return lines


def _wrap(cell: str, width: int) -> list[str]:
    return [
        part for line in (cell or " ").splitlines() for part in (textwrap.wrap(line, width) or [""])
    ]


def _print_rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, least = Console(), _least(headings, rows)
    if sum(least) + 3 * len(least) + 1 > console.width:
        for line in [title] * bool(title) + _stacked(headings, rows):
            echo(line)
        return
    table = Table(
        title=title or None,
        title_justify="left",
        show_lines=any("\n" in c for r in rows for c in r),
    )
    for heading, size in zip(headings, least, strict=True):
        table.add_column(heading, overflow="fold", min_width=size)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
