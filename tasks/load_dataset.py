"""Stage `load_dataset`: read the rows of any source into one file, none dropped."""

from __future__ import annotations

from array import array
from collections import Counter
from pathlib import Path

from schemas.config.run import DataSource
from schemas.records.references import DatasetReference, SourceRows
from tasks.engine.cache import OutputFolder
from tasks.engine.jsonl import json_line
from tasks.engine.progress import progress_bar
from tasks.engine.redaction import without_secrets
from tasks.engine.stage import stage_task
from tasks.sources.mixture import Origin, origin_fingerprint, read_named_rows, title
from tasks.sources.row_digests import ROW_DIGESTS, row_digest


def write_rows(
    origin: Origin, path: Path, conversions: Counter[str] | None = None
) -> dict[str, int]:
    """Write every row of all sources, one a line, in constant memory for line-based files.

    Args:
        origin: Where the rows come from.
        path: The file to write, as `rows.jsonl`; `row_digests.npy` is written next to it.
        conversions: Gets the number of rows that were read by each conversion.

    Returns:
        The number of rows of each source by its name, in the order they were written,
        unreadable ones included.
    """
    import numpy

    counts: Counter[str] = Counter()
    digests = array("Q")
    rows = read_named_rows(origin, conversions)
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for name, row in progress_bar(rows, total=None, label="load", unit="row"):
            stream.write(json_line(row.to_json()))
            digests.append(row_digest(row))
            counts[name] += 1
    numpy.save(path.with_name(ROW_DIGESTS), numpy.sort(numpy.array(digests, dtype=numpy.uint64)))
    return dict(counts)


@stage_task(timeout_seconds=4 * 3600, fingerprint=origin_fingerprint)
def load_dataset(
    output: OutputFolder, source: DataSource | dict[str, DataSource]
) -> DatasetReference:
    """Load the rows of one source, or of several as one set.

    Args:
        output: Gets `rows.jsonl` and `row_digests.npy`.
        source: Where the rows come from; several by name are read in the order of their names.

    Returns:
        Reference to the rows.
    """
    conversions: Counter[str] = Counter()
    counts = write_rows(source, output.path / "rows.jsonl", conversions)
    by_name = {} if isinstance(source, DataSource) else source
    sources = tuple(
        SourceRows(name=name, source=without_secrets(by_name[name].source), n_rows=n_rows)
        for name, n_rows in counts.items()
        if by_name
    )
    return output.commit(
        DatasetReference,
        content=("rows.jsonl",),
        source=title(source),
        n_rows=sum(counts.values()),
        sources=sources,
        conversions=dict(conversions),
    )
