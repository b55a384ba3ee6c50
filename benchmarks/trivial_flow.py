"""A Prefect flow whose tasks do nothing: what `measure_flow` compares the overhead with.

Usage: python benchmarks/trivial_flow.py N_TASKS
"""

from __future__ import annotations

import sys

from prefect import flow, task


@task
def do_nothing(number: int) -> int:
    """Return the number.

    Args:
        number: Of the task.

    Returns:
        The same.
    """
    return number


@flow
def do_nothing_often(n_tasks: int) -> int:
    """Run tasks that do nothing, one after another.

    Args:
        n_tasks: How many.

    Returns:
        How many ran.
    """
    return len([do_nothing(number) for number in range(n_tasks)])


if __name__ == "__main__":
    do_nothing_often(int(sys.argv[1]))
