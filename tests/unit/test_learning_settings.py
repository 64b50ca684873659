"""What a tenant may say of how an adapter learns: known fields, known values."""

from __future__ import annotations

import pytest

from adapters.types import Learning
from core.errors import Invalid
from server.routes.adapters import parse_learning


def test_a_method_is_one_of_those_there_are() -> None:
    assert parse_learning({"method": "sft"}, Learning()).method == "sft"
    assert parse_learning({"method": "auto"}, Learning(method="sft")).method == "auto"
    for unknown in ("orpo", "", None, 1, ["sft"]):
        with pytest.raises(Invalid, match="must be one of auto, dpo, kto, sft") as caught:
            parse_learning({"method": unknown}, Learning())
        assert caught.value.param == "learning.method"


def test_fields_left_out_stay_as_they_are() -> None:
    before = Learning(method="dpo", min_pairs=3)
    assert parse_learning({"new_items": 5}, before) == Learning(
        method="dpo", min_pairs=3, new_items=5
    )
