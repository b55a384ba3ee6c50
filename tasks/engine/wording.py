"""How numbers, shares, bytes and times are formatted wherever a person reads them.

JSON documents keep all digits.
"""

from __future__ import annotations

import math
from datetime import timedelta

MISSING = "-"
HUGE = 1e9


def number(value: float | None) -> str:
    """Format a number: 3.229, 0.0123, 1,234, 2e+12; "-" for None.

    Three decimals; below 0.1 three significant digits, so that a small value never reads as 0;
    from 1,000 on no decimals, and powers of ten for huge values. Whole numbers have no decimals.
    """
    return _format(value, "")


def signed_number(value: float | None) -> str:
    """Format a difference as `number` does, with its sign: +0.775, -0.0123, 0."""
    return _format(value, "+")


def _format(value: float | None, sign: str) -> str:
    if value is None:
        return MISSING
    if isinstance(value, int):
        return f"{value:{sign if value else ''},}"
    if math.isnan(value):
        return "NaN"
    size = abs(value)
    if size >= HUGE:
        return f"{value:{sign}.4g}"
    if size >= 1000 or value.is_integer():
        return f"{value:{sign},.0f}" if value else "0"
    return f"{value:{sign}.3g}" if size < 0.1 else f"{value:{sign}.3f}"


def interval(low: float | None, high: float | None) -> str:
    """Format an interval: [0.694, 0.851]; "-" where it has no ends."""
    return MISSING if low is None or high is None else f"[{number(low)}, {number(high)}]"


def signed_interval(low: float, high: float) -> str:
    """Format the interval of a difference: [+0.694, +0.851]."""
    return f"[{signed_number(low)}, {signed_number(high)}]"


def share(fraction: float) -> str:
    """Format a fraction (0 to 1) in per cent, three digits: 5 %, 99.9 %, < 0.001 %.

    A share above 0 never reads as 0, one below 1 never as 100 %.
    """
    percent = 100 * fraction
    if 0 < percent < 0.001:
        return "< 0.001 %"
    if not 99.95 <= percent < 100:
        return f"{percent:.3g} %"
    n_digits = max(2, math.ceil(-math.log10(100 - percent) - 1e-6))
    cut = math.floor(percent * 10**n_digits + 1e-6) / 10**n_digits
    return f"{cut:.{n_digits}f} %"


def optional_share(fraction: float | None) -> str:
    """Format a fraction as `share`; `-` without one."""
    return "-" if fraction is None else share(fraction)


def gibibytes(n_bytes: float) -> str:
    """Format memory and disk space: 1.41 GiB."""
    return f"{n_bytes / 2**30:,.2f} GiB"


def mebibytes(n_bytes: float) -> str:
    """Format the size of files: 513.2 MiB."""
    return f"{n_bytes / 2**20:,.1f} MiB"


def duration(seconds: float) -> str:
    """Format a measured time: 9.8 s, 1 min 5 s, 2 h 3 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def span(seconds: float) -> str:
    """Format an estimated time, in one unit: 85 s, 42 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def age(length: timedelta) -> str:
    """Format how long ago something was, rounded down: 119 min, 47 h, 12 days."""
    minutes = int(length.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
