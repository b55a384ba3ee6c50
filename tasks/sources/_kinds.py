"""Kinds of data files by the ending of a name, and the way out for files of other kinds."""

from __future__ import annotations

from pathlib import PurePath

from schemas.errors import DataSourceError

LINE_ENDINGS = (".jsonl", ".ndjson")
JSON_ENDINGS = (*LINE_ENDINGS, ".json")
CSV_ENDINGS = (".csv", ".tsv")
TEXT_ENDINGS = (*JSON_ENDINGS, *CSV_ENDINGS)
ARROW_ENDINGS = (".arrow", ".feather")
ARCHIVE_ENDING = ".zip"
ENDINGS = (*TEXT_ENDINGS, ".parquet", *ARROW_ENDINGS)
"""Of files with rows."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Ending to what Arrow calls the codec."""
KINDS = f"{', '.join(ENDINGS)}, each also with {' or '.join(COMPRESSIONS)} or in a {ARCHIVE_ENDING}"
"""What can be read, for messages."""
METADATA_NAMES = frozenset(
    ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
)
"""Files about a dataset next to its data; they are rows only where one is named itself."""

PLAIN_TEXT = "plain text"
WRITE_ROWS = "write its rows as JSON lines (.jsonl) or Parquet and name that file"
WAYS_OUT = {
    "a spreadsheet": (
        ".xlsx .xlsm .xlsb .xls .ods .numbers",
        "save the sheet with the rows as CSV (UTF-8), with one header line, and name that file",
    ),
    "a document": (
        ".doc .docx .odt .rtf .pdf .ppt .pptx .html .htm .xml .md",
        "write its texts as rows first: one JSON object a line (.jsonl) with prompt and "
        "completion, or with messages",
    ),
    "a picture, sound or video": (
        ".png .jpg .jpeg .gif .webp .bmp .tif .tiff .wav .mp3 .flac .ogg .mp4 .mov .webm",
        "name a file with texts: only text is trained",
    ),
    "an archive": (
        ".tar .tar.gz .tar.zst .tgz .7z .rar .bz2 .xz .lz4 .lzma .br",
        "unpack it, and name the file or folder with the rows",
    ),
    "a file of another program": (
        ".pkl .pickle .pt .pth .npy .npz .bin .safetensors .h5 .hdf5 .avro .orc .sqlite .sqlite3 "
        ".db .tfrecord .yaml .yml .toml",
        WRITE_ROWS,
    ),
    PLAIN_TEXT: (
        ".txt .text .log",
        "if it has one JSON object a line, end its name in .jsonl; otherwise write its texts as "
        "rows first",
    ),
}
"""What a file is, with its endings and what to do; none of these is read."""


def data_ending(name: str) -> tuple[str, str] | None:
    """Find out from a file's name how to read it.

    Args:
        name: A file name or a path, in upper or lower case.

    Returns:
        The kind's ending and the compression's (or an empty string), as `ENDINGS` and
        `COMPRESSIONS` have them; None where the file is no data file.
    """
    path = PurePath(name.lower())
    packing = path.suffix if path.suffix in COMPRESSIONS else ""
    kind = path.with_suffix("").suffix if packing else path.suffix
    if kind == ARCHIVE_ENDING and not packing:
        return (kind, "")
    return (kind, packing) if kind in ENDINGS else None


def is_data(name: str) -> bool:
    """Return whether a file of a folder is data: by its ending, and neither hidden nor metadata."""
    path = PurePath(name)
    is_metadata = path.name in METADATA_NAMES or path.name.startswith(".")
    return data_ending(name) is not None and not is_metadata


def way_out(name: str) -> tuple[str, str]:
    """Return what a file is by an ending that is not read, if known, and what to do."""
    path = PurePath(name.lower())
    suffixes = {"".join(path.suffixes[-2:]), path.suffix}
    for what, (endings, fix) in WAYS_OUT.items():
        if not suffixes.isdisjoint(endings.split()):
            return what, fix
    return "", "convert the data to one of these kinds, or give the file its right ending"


def unknown_kind(name: str) -> DataSourceError:
    """Make the error for a file that is no data file by its ending, with the way out."""
    what, fix = way_out(name)
    return DataSourceError(
        f"{PurePath(name).name} is not a kind of data file that can be read"
        + (f": it is {what}" if what else ""),
        where=name,
        expected=KINDS,
        got=PurePath(name).suffix or "no ending",
        fix=fix,
    )
