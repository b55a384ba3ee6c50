"""Flow parameters as Prefect stores and shows them: without the secrets of addresses."""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

from prefect import Flow

from tasks.engine.redaction import public_settings

P = ParamSpec("P")
R = TypeVar("R")


def hides_secrets(flow: Flow[P, R]) -> Flow[P, R]:
    """Make a flow send its parameters to Prefect without secrets; it runs with the real ones.

    Args:
        flow: The flow. Parameters of a deployment are in Prefect before it runs, as they were given.

    Returns:
        The same flow.
    """
    serialize = flow.serialize_parameters

    def public_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
        public: dict[str, Any] = public_settings(serialize(parameters))
        return public

    flow.serialize_parameters = public_parameters  # type: ignore[method-assign]
    return flow
