"""Read small data files in tests, and run the command that a refusal gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import DataSourceError
from schemas.rows.row import SourceRow
from tasks.sources._readers import read_file
from tasks.sources.parsing import parse_block


def read_rows(path: Path) -> list[SourceRow]:
    """Read the rows of a file."""
    return [row for block in read_file(path, path.name) for row in parse_block(block).rows]


def refused(path: Path, text: str) -> DataSourceError:
    """Write a file that cannot be read, and return the error."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataSourceError) as caught:
        read_rows(path)
    assert (caught.value.exit_code, bool(caught.value.fix)) == (2, True)
    return caught.value


def rows_after(fix: str, folder: Path, written: str) -> list[Any]:
    """Run the command of a fix, and read what it wrote."""
    command = fix.split(": ", 1)[1] if "e.g. " not in fix else fix.split("e.g. ", 1)[1]
    command = command.replace("python -c", f"{sys.executable} -c", 1)
    subprocess.run(command, shell=True, check=True, cwd=folder)  # noqa: S602
    return [row.row for row in read_rows(folder / written)]
