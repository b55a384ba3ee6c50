"""Types of the arrays that several wings pass on; import them for annotations only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Flags: TypeAlias = NDArray[numpy.bool_]
    Hashes: TypeAlias = NDArray[numpy.uint64]
    Numbers: TypeAlias = NDArray[numpy.int64]
    """Numbers of rows, or counts."""
