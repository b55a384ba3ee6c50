"""Format the results of `measure_check.py`, with their targets."""

from __future__ import annotations

from typing import Any

COMPARED_ROWS = 100_000
"""Number of rows for the times of peers."""
TARGETS = {
    "ratio_to_json_loads": ("at most", 2.5),
    "ratio_with_near_duplicates": ("at most", 5.0),
    "peak_gib_1m": ("under", 1.5),
    "peak_growth_4m": ("at most", 0.2),
    "token_ratio": ("at least", 0.8),
    "check_1000_rows_only_seconds": ("under", 3.0),
    "check_1000_rows_seconds": ("under", 8.0),
}


def compare_peers(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Scale the time of each to 100,000 rows, and compare it with the gate's.

    Args:
        found: `seconds` and `n_rows` by name; the first is the gate itself.

    Returns:
        The same names with `seconds_per_100000_rows`, `ratio_to_gate` and `n_rows`, the rows checked.
    """
    scaled = {
        name: each["seconds"] * COMPARED_ROWS / each["n_rows"] for name, each in found.items()
    }
    ours = next(iter(scaled.values()))
    return {
        name: {
            "seconds_per_100000_rows": round(seconds, 2),
            "ratio_to_gate": round(seconds / ours, 2),
            "n_rows": found[name]["n_rows"],
        }
        for name, seconds in scaled.items()
    }


def table(results: dict[str, Any]) -> str:
    """Format the results: those with a target, the other numbers, the peers."""
    lines = []
    for name, (word, limit) in TARGETS.items():
        if name in results:
            value = results[name]
            is_met = value >= limit if word == "at least" else value <= limit
            mark = "met" if is_met else "MISSED"
            lines.append(f"{name:42} {value:>10.2f}   {word} {limit:g}: {mark}")
    for name, value in results.items():
        if name not in TARGETS and isinstance(value, (int, float)):
            lines.append(f"{name:42} {value:>10,.2f}")
    for name, peer in results.get("peers", {}).items():
        seconds, ratio = peer["seconds_per_100000_rows"], peer["ratio_to_gate"]
        lines.append(f"{name:42} {seconds:>10.2f} s for 100,000 rows, {ratio:g} x the gate")
    return "\n".join(lines) + "\n"


def rounded(value: Any) -> Any:
    """Round all numbers in a value, for the last line."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value
