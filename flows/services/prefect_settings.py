"""Settings of Prefect that it does not accept, from the environment or its profile."""

from __future__ import annotations

import os

from schemas.errors import ConfigError


def settings_error(error: BaseException) -> ConfigError | None:
    """Make the error for a setting that Prefect does not accept; None for other errors.

    Prefect reads its settings when it is imported, and shows what pydantic says.

    Args:
        error: What was raised.

    Returns:
        The error, with the variable where the setting is from the environment.
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError) or not error.title.endswith("Settings"):
        return None
    first = error.errors()[0]
    name = str(first["loc"][-1]) if first["loc"] else error.title
    ending = f"_{name.upper()}"
    variables = [one for one in os.environ if one.startswith("PREFECT_") and one.endswith(ending)]
    return ConfigError(
        "Prefect does not accept one of its settings",
        where=", ".join(sorted(variables)) or f"{name} in the profile: `prefect config view`",
        expected=first["msg"],
        got=str(first["input"]),
        fix="correct it, or unset it",
    )
