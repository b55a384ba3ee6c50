"""Variables by which a launcher (torchrun, accelerate, MPI) tells a process that it is one of several."""

from __future__ import annotations

import os

NAMES = frozenset(
    {
        "GROUP_RANK",
        "GROUP_WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "NODE_RANK",
        "RANK",
        "ROLE_NAME",
        "ROLE_RANK",
        "ROLE_WORLD_SIZE",
        "WORLD_SIZE",
    }
)
PREFIXES = ("ACCELERATE_", "FSDP_", "MV2_COMM_WORLD_", "OMPI_COMM_WORLD_", "PMI_", "TORCHELASTIC_")


def leave_launcher() -> tuple[str, ...]:
    """Remove such variables from the environment of this process, and so of those that it starts.

    A run is no rank of another job. With them, a training would wait for processes that never come;
    those of accelerate would change it without being in a cache key.

    Returns:
        The names that were set.
    """
    found = tuple(sorted(name for name in os.environ if name in NAMES or name.startswith(PREFIXES)))
    for name in found:
        del os.environ[name]
    return found
