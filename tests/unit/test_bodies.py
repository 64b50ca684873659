"""What callers read when a body is not as it must be."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from core.bodies import Body, check_text, invalid, says
from core.errors import Invalid


class Inner(Body):
    share: Annotated[float, Field(le=1)] = 0.5


class Outer(Body):
    name: str
    inner: Inner | None = None
    size: Annotated[int, Field(ge=1), says("size must be a whole number, 1 or more.")] = 1


def refused(sent: Any) -> Invalid:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(sent)
    return invalid(caught.value.errors())


@pytest.mark.parametrize(
    ("sent", "param", "words"),
    [
        ({}, "name", "name: this field is required."),
        ({"name": 7}, "name", "name: Input should be a valid string."),
        ({"name": "x", "size": 0}, "size", "size must be a whole number, 1 or more."),
        ({"name": "x", "size": True}, "size", "size must be a whole number, 1 or more."),
        ({"name": "x", "size": "1"}, "size", "size must be a whole number, 1 or more."),
        ({"name": "x", "inner": {"share": 2}}, "inner.share", "less than or equal to 1"),
        ({"name": "x", "colour": "red"}, "colour", "Unknown field 'colour'. Known: name,"),
        ({"name": "x", "nam": "y"}, "nam", "did you mean 'name'?"),
        ({"name": "x", "inner": {"shar": 1}}, "inner.shar", "did you mean 'share'?"),
        ({"name": "x", "c" * 500: 1}, "c" * 80, "Unknown field"),
    ],
)
def test_the_field_is_named_and_so_is_what_is_wrong(sent: Any, param: str, words: str) -> None:
    error = refused(sent)
    assert error.param == param
    assert words in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize("sent", [[], "x", 7, None])
def test_a_body_must_be_an_object(sent: Any) -> None:
    assert (refused(sent).code, refused(sent).param) == ("invalid_json", None)


@pytest.mark.parametrize("sent", ["a\0b", "half \ud83d", float("nan"), [float("inf")]])
def test_what_no_database_can_hold_is_refused(sent: Any) -> None:
    with pytest.raises(Invalid):
        check_text({"said": [sent]})


def test_a_backslash_before_u0000_is_only_text() -> None:
    check_text({"said": "\\u0000"})
