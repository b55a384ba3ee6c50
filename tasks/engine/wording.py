"""How numbers, shares, bytes and times read wherever a person sees them."""

from __future__ import annotations

from datetime import timedelta


def share(fraction: float) -> str:
    """Write a share as people read it.

    Args:
        fraction: 0 to 1.

    Returns:
        Per cent, three digits; a share above 0 never reads as 0, one below 1 never as 100 %.
    """
    percent = 100 * fraction
    if 0 < percent < 0.001:
        return "< 0.001 %"
    return f"{percent:.3g} %" if percent < 99.95 or percent >= 100 else f"{percent:.5g} %"


def gibibytes(n_bytes: int) -> str:
    """Write bytes as people read them.

    Args:
        n_bytes: How many.

    Returns:
        GiB with two decimals.
    """
    return f"{n_bytes / 2**30:.2f} GiB"


def span(seconds: float) -> str:
    """Write a time span, coarser the longer it is.

    Args:
        seconds: Its length.

    Returns:
        Seconds below 90 s, minutes below 90 min, else hours.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def seconds_text(seconds: float) -> str:
    """Write a duration as people read it.

    Args:
        seconds: The duration.

    Returns:
        Seconds, or minutes and seconds, or hours and minutes.
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def age(span: timedelta) -> str:
    """Write how long ago something was.

    Args:
        span: Its length.

    Returns:
        Minutes, hours or days, rounded down.
    """
    minutes = int(span.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def figure(value: object) -> str:
    """Format one figure of a report.

    Args:
        value: A number, or None for one that is missing.

    Returns:
        Four significant decimals at most; a dash for a missing figure.
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Write a time span as people say it.

    Args:
        seconds: Its length.

    Returns:
        Seconds, minutes or hours.
    """
    if seconds < 90:
        return f"about {seconds:.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
