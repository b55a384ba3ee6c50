"""ZIP archives with data files: what is in them, without writing any of it to disk."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath

from schemas.errors import DataSourceError
from tasks.sources._compression import ARCHIVE_FAULTS, DataFile
from tasks.sources._kinds import ARCHIVE_ENDING, KINDS, WAYS_OUT, data_ending, is_data

MOST_BYTES = 1 << 30
"""Unpacked size that any archive may have."""
MOST_TIMES = 100
"""How many times its size a larger one may unpack to; deflate reaches ten times as much."""
MOST_MEMBERS = 10_000
ENCRYPTED = 1
"""Bit of a member's flags."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
OFFICE_PARTS = {
    "xl/": "a spreadsheet",
    "word/": "a document",
    "ppt/": "a document",
    "content.xml": "a document",
}
"""Members by which an archive is no archive of data."""


def data_members(file: DataFile) -> list[str]:
    """List the data files in a ZIP archive, in the order of their names.

    Args:
        file: The archive.

    Returns:
        Their names in the archive.

    Raises:
        DataSourceError: It is damaged, a document, without a data file, or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(file.path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (*ARCHIVE_FAULTS, IndexError, NotImplementedError) as error:
        raise DataSourceError(
            f"{file.name} is not a readable ZIP archive: {error}",
            where=file.name,
            fix="write or copy the file again; it may have been cut off while it was copied",
        ) from error
    names = sorted(member.filename for member in members)
    _check_office(file, names)
    found = [name for name in names if _is_member(name)]
    if not found:
        raise DataSourceError(
            f"{file.name} has no data file in it",
            where=file.name,
            expected=KINDS,
            got=f"files {', '.join(names[:5])}" if names else "an empty archive",
            fix="unpack it, and name the file or folder with the rows",
        )
    wanted = set(found)
    _check_members(file, [member for member in members if member.filename in wanted])
    return found


def _is_member(name: str) -> bool:
    """Return whether a member is a data file; archives in archives are not read."""
    is_archive = (data_ending(name) or ("",))[0] == ARCHIVE_ENDING
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    return is_data(name) and not is_archive and not is_hidden


def _check_office(file: DataFile, names: list[str]) -> None:
    is_office = not {"[Content_Types].xml", "mimetype"}.isdisjoint(names)
    for part, what in OFFICE_PARTS.items():
        if is_office and any(name.startswith(part) for name in names):
            raise DataSourceError(
                f"{file.name} is {what}, not a file with rows",
                where=file.name,
                expected=KINDS,
                got=what,
                fix=WAYS_OUT[what][1],
            )


def _check_members(file: DataFile, members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that cannot be unpacked, and more of them than data make."""
    for member in members:
        if member.flag_bits & ENCRYPTED or member.compress_type not in METHODS:
            is_locked = member.flag_bits & ENCRYPTED
            raise DataSourceError(
                f"{member.filename} in {file.name} cannot be unpacked",
                where=f"{file.name}/{member.filename}",
                expected="a ZIP archive without a password, packed with deflate",
                got="a password" if is_locked else f"method {member.compress_type}",
                fix="unpack it yourself, and name the file or folder with the rows",
            )
    n_bytes = sum(member.file_size for member in members)
    most_bytes = max(MOST_BYTES, MOST_TIMES * file.path.stat().st_size)
    n_names = len({member.filename for member in members})
    if n_bytes > most_bytes or len(members) > MOST_MEMBERS or n_names < len(members):
        raise DataSourceError(
            f"{file.name} unpacks to more than is expected of data",
            where=file.name,
            expected=f"at most {most_bytes:,} bytes in {MOST_MEMBERS:,} files of different names",
            got=f"{n_bytes:,} bytes in {len(members):,} files",
            fix="unpack it yourself if you trust it, and name the files",
        )
