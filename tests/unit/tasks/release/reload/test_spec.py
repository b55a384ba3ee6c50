from __future__ import annotations

from pathlib import Path

import pytest

from tasks.release.reload.spec import stop_ids, weights_dtype
from tests.support.toy import make_toy_model


@pytest.mark.parametrize(("given", "expected"), [(2, (2,)), ([5, 2], (2, 5)), (None, ()), ([], ())])
def test_stop_ids_come_in_one_form(
    given: int | list[int] | None, expected: tuple[int, ...]
) -> None:
    assert stop_ids(given) == expected


def test_weights_dtype_is_that_of_the_most_numbers(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    assert weights_dtype(make_toy_model(tmp_path / "toy")) == "float32"
    half = torch.zeros(3, 5, dtype=torch.bfloat16)
    save_file({"a": half, "b": torch.zeros(14)}, tmp_path / "model.safetensors")
    assert weights_dtype(tmp_path) == "bfloat16"
