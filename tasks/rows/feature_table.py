"""The per-row feature table that the set rules look at: kept on disk, read one column at a time."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.rows.features import MAX_SAMPLE_ROWS, RowFeatures

if TYPE_CHECKING:
    from tasks.engine.arrays import Array, Flags, Numbers

DTYPES = {
    "file": "uint32",
    "line": "uint32",
    "whole": "uint64",
    "prompt": "uint64",
    "answer": "uint64",
    "context": "uint64",
    "conclusion": "uint64",
    "prompt_characters": "uint32",
    "answer_characters": "uint32",
    "question_characters": "uint32",
    "n_messages": "uint32",
    "n_assistant": "uint32",
    "is_label": "bool",
    "in_benchmark": "bool",
    "part": "uint8",
    "cluster": "uint32",
    "group": "uint32",
    "copied": "uint32",
    "continued": "uint64",
}
"""Columns a table may have: about 80 bytes a row."""


class FeatureTable:
    """Features of many rows, one file a column, so that memory does not grow with the rows."""

    def __init__(self, folder: Path) -> None:
        """Start an empty table in a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.files: list[str] = []
        """Names by code."""
        self.n_rows = 0
        self.roles: Counter[str] = Counter()
        self.sample: list[tuple[int, str]] = []
        """Hash and beginning of the answer, of the rows with the smallest hashes."""
        self._codes: dict[str, int] = {}
        self._chosen: Numbers | None = None

    def add(self, features: RowFeatures) -> None:
        """Append the features of the next block."""
        codes = [self._codes.setdefault(name, len(self._codes)) for name in features.files]
        self.files = list(self._codes)
        columns = dict(features.columns)
        n_rows = len(columns["line"])
        if n_rows:
            import numpy

            columns["file"] = numpy.array(codes, dtype="uint32")[columns["file"]]
        for name, values in columns.items():
            self.append(name, values)
        self.n_rows += n_rows
        self.roles.update(features.roles)
        self.sample = sorted([*self.sample, *features.sample])[:MAX_SAMPLE_ROWS]

    def save(self) -> None:
        """Write what is not in the columns, so that `load` finds the table again."""
        facts = {
            "files": self.files,
            "n_rows": self.n_rows,
            "roles": dict(sorted(self.roles.items())),
            "sample": self.sample,
        }
        (self.folder / "table.json").write_text(json.dumps(facts), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> FeatureTable:
        """Open a table that was saved."""
        facts = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        table = cls(folder)
        table.files, table.n_rows = facts["files"], facts["n_rows"]
        table.roles = Counter(facts["roles"])
        table.sample = [(int(key), text) for key, text in facts["sample"]]
        return table

    def select(self, is_chosen: Flags) -> FeatureTable:
        """Select rows without copying them; roles stay those of all rows."""
        import numpy

        chosen = type(self)(self.folder)
        chosen.files, chosen.roles, chosen.sample = self.files, self.roles, self.sample
        numbers = numpy.flatnonzero(is_chosen)
        chosen._chosen = numbers if self._chosen is None else self._chosen[numbers]
        chosen.n_rows = len(numbers)
        return chosen

    def append(self, name: str, values: Array) -> None:
        """Append values to one of the columns in `DTYPES`."""
        with (self.folder / f"{name}.bin").open("ab") as stream:
            stream.write(values.astype(DTYPES[name], copy=False).tobytes())

    def column(self, name: str) -> Array:
        """Read one of the columns in `DTYPES`; empty where it was never filled."""
        import numpy

        path = self.folder / f"{name}.bin"
        if not path.is_file():
            return numpy.zeros(0, dtype=DTYPES[name])
        values = numpy.fromfile(path, dtype=DTYPES[name])
        return values if self._chosen is None else values[self._chosen]

    def place(self, row: int) -> tuple[str, int]:
        """Return the file and line of a row."""
        number = int(row if self._chosen is None else self._chosen[row])
        found = []
        for name in ("file", "line"):
            with (self.folder / f"{name}.bin").open("rb") as stream:
                stream.seek(4 * number)
                found.append(int.from_bytes(stream.read(4), "little"))
        return self.files[found[0]], found[1]
