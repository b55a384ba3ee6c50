"""Readers of data files, chosen by the ending of the name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.errors import DataSourceError
from tasks.sources._compression import COMPRESSIONS, DataFile, open_data
from tasks.sources._json_values import read_json_file
from tasks.sources._line_blocks import read_line_blocks
from tasks.sources._tables import read_csv, read_parquet, read_tsv
from tasks.sources.parsing import Block

READERS: dict[str, Callable[[DataFile], Iterator[Block]]] = {
    ".jsonl": read_line_blocks,
    ".ndjson": read_line_blocks,
    ".json": read_json_file,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
"""By the ending of the file's name."""
KINDS = f"{', '.join(READERS)}, each also with {' or '.join(COMPRESSIONS)}"
"""What can be read, for messages."""
START_BYTES = 64
SIGNATURES = {
    b"\xff\xfe\x00\x00": ("UTF-32", "save the file as UTF-8"),
    b"\x00\x00\xfe\xff": ("UTF-32", "save the file as UTF-8"),
    b"\xff\xfe": ("UTF-16", "save the file as UTF-8"),
    b"\xfe\xff": ("UTF-16", "save the file as UTF-8"),
    b"\x1f\x8b": ("packed with gzip", "end the file's name in .gz"),
    b"\x28\xb5\x2f\xfd": ("packed with Zstandard", "end the file's name in .zst"),
    b"PAR1": ("Parquet", "end the file's name in .parquet"),
}
"""How files begin that are no UTF-8 text; the first that fits counts."""
NULL_PATTERNS = {
    (False, True, True, True): "UTF-32",
    (True, True, True, False): "UTF-32",
    (False, True, False, True): "UTF-16",
    (True, False, True, False): "UTF-16",
}
"""Which bytes of four are mostly zero where text without a byte order mark begins."""


def data_ending(name: str) -> tuple[str, str] | None:
    """Find out from a file's name how to read it.

    Args:
        name: A file name or a path, in upper or lower case.

    Returns:
        The kind's ending and the compression's (or an empty string), as `READERS` and
        `COMPRESSIONS` have them; None where the file is no data file.
    """
    path = Path(name.lower())
    packing = path.suffix if path.suffix in COMPRESSIONS else ""
    kind = path.with_suffix("").suffix if packing else path.suffix
    return (kind, packing) if kind in READERS else None


def read_file(path: Path, name: str) -> Iterator[Block]:
    """Read one data file in constant memory.

    Args:
        path: The file.
        name: What to call it in messages and in the output.

    Yields:
        Its rows in order; a row that cannot be read has the reason.

    Raises:
        DataSourceError: The complete file is unreadable, or of an unknown kind.
    """
    ending = data_ending(path.name)
    if ending is None:
        raise DataSourceError(
            f"{name} is not a kind of data file that can be read",
            expected=KINDS,
            got=path.suffix or "no ending",
            fix="convert the data to one of these kinds, or give the file its right ending",
        )
    kind, packing = ending
    file = DataFile(path, name, COMPRESSIONS[packing] if packing else "")
    if kind != ".parquet":
        _check_start(file)
    yield from READERS[kind](file)


def _check_start(file: DataFile) -> None:
    """Refuse what is no UTF-8 text as a whole, which no row could say as clearly."""
    with open_data(file) as stream:
        start = stream.read(START_BYTES)
    for signature, (what, fix) in SIGNATURES.items():
        if start.startswith(signature):
            raise _not_text(file, what, fix)
    if len(start) >= 4:
        quarters = [start[place : len(start) // 4 * 4 : 4] for place in range(4)]
        pattern = tuple(quarter.count(0) * 2 > len(quarter) for quarter in quarters)
        if pattern in NULL_PATTERNS:
            raise _not_text(file, NULL_PATTERNS[pattern], "save the file as UTF-8")


def _not_text(file: DataFile, what: str, fix: str) -> DataSourceError:
    return DataSourceError(
        f"{file.name} is {what}, not UTF-8",
        where=str(file.path),
        expected="UTF-8 text",
        got=what,
        fix=fix,
    )
