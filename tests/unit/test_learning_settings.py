"""What a tenant may say of how an adapter learns: known fields, known values."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from adapters.types import Learning
from core.bodies import invalid
from server.routes.adapters import LearningBody


def test_a_method_is_one_of_those_there_are() -> None:
    assert LearningBody(method="sft").on(Learning()).method == "sft"
    assert LearningBody(method="auto").on(Learning(method="sft")).method == "auto"
    for unknown in ("orpo", "", None, 1, ["sft"]):
        with pytest.raises(ValidationError) as caught:
            LearningBody.model_validate({"method": unknown})
        refused = invalid(caught.value.errors())
        assert refused.param == "method"
        assert all(f"'{known}'" in refused.message for known in ("auto", "dpo", "kto", "sft"))


def test_fields_left_out_stay_as_they_are() -> None:
    before = Learning(method="dpo", min_pairs=3)
    assert LearningBody(new_items=5).on(before) == Learning(method="dpo", min_pairs=3, new_items=5)
