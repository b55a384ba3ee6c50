"""Stage `load_dataset`: bring the rows of any source into one file, nothing dropped."""

from __future__ import annotations

from pathlib import Path

from schemas.records import DatasetReference
from schemas.run_config import DataSource
from tasks._cache import OutputFolder
from tasks._lines import json_line
from tasks._progress import progress_bar
from tasks._secrets import without_secrets
from tasks._sources import read_rows, source_fingerprint
from tasks._stage import stage_task


def write_rows(source: DataSource, path: Path) -> int:
    """Write every row of a source, one a line, in constant memory for line-based files.

    Args:
        source: Where the rows come from.
        path: The file to write, as `rows.jsonl`.

    Returns:
        The number of rows, unreadable ones included.
    """
    n_rows = 0
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in progress_bar(read_rows(source), total=None, label="load", unit="row"):
            stream.write(json_line(row.to_json()))
            n_rows += 1
    return n_rows


@stage_task(
    timeout_seconds=4 * 3600, libraries=("datasets", "pyarrow"), fingerprint=source_fingerprint
)
def load_dataset(output: OutputFolder, source: DataSource) -> DatasetReference:
    """Load the rows of a source.

    Args:
        output: Gets `rows.jsonl`.
        source: Where the rows come from.

    Returns:
        Reference to the rows.
    """
    n_rows = write_rows(source, output.path / "rows.jsonl")
    name = without_secrets(source.source)
    return output.commit(DatasetReference, content=("rows.jsonl",), source=name, n_rows=n_rows)
