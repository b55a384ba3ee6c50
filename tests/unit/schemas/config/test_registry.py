"""Settings of the registry."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.config.registry import RegistryConfig
from tests.support.parts import FLOW


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alias": "previous"}, "must differ"),
        ({"challenger_alias": "Champion"}, "must differ"),
        ({"alias": "2nd"}, "pattern"),
        ({"alias": "latest"}, "MLflow reserves the alias latest"),
        ({"previous_alias": "Latest"}, "MLflow reserves"),
        ({"challenger_alias": "v1"}, "MLflow reserves"),
        ({"alias": "V12"}, "MLflow reserves"),
        ({"alias": "a" * 256}, "at most 255"),
        ({"name": "a/b"}, "pattern"),
        ({"name": "faq "}, "pattern"),
        ({"experiment": ""}, "pattern"),
        ({"experiment": " faq"}, "pattern"),
        ({"experiment": "x" * 501}, "at most 500"),
        ({"approval": {"timeout_seconds": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RegistryConfig.model_validate(settings)


def test_aliases_have_the_usual_names() -> None:
    registry = RegistryConfig()
    assert (registry.alias, registry.previous_alias, registry.challenger_alias) == (
        "champion",
        "previous",
        "challenger",
    )


@pytest.mark.parametrize("alias", ["v1-stable", "v", "latest-1", "vx2", "a" * 255])
def test_aliases_that_only_begin_like_reserved_ones_are_accepted(alias: str) -> None:
    assert RegistryConfig(alias=alias).alias == alias


@FLOW.mark
@pytest.mark.parametrize("alias", ["latest", "LATEST", "v1", "V12", "v1-stable", "latest-1", "vx2"])
def test_aliases_are_refused_just_where_mlflow_refuses_them(alias: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils import validation

    try:
        validation._validate_model_alias_name(alias)
        validation._validate_model_alias_name_reserved(alias)
        is_accepted = True
    except MlflowException:
        is_accepted = False
    try:
        RegistryConfig(alias=alias)
        assert is_accepted
    except ValidationError:
        assert not is_accepted
