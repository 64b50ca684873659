"""The fields of feedback that server and devices read alike: their limits and spellings. Pure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from core.bodies import says
from core.errors import Invalid

MAX_TEXT = 100_000
_UP = frozenset({"up", "thumbs_up", "good", "like"})
_DOWN = frozenset({"down", "thumbs_down", "bad", "dislike"})

_EXACT = 2**53
"""Up to here every whole number is a float of its own."""


def _exact(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > _EXACT:
        raise ValueError
    return value


Name = Annotated[str, Field(min_length=1, max_length=128)]
Comment = Annotated[str, Field(max_length=10_000)]
Value = Annotated[
    bool
    | Annotated[float, Field(allow_inf_nan=False)]
    | Annotated[str, Field(max_length=1_000)]
    | None,
    BeforeValidator(_exact),
    says(
        "value: send true or false, a finite number (whole ones up to 2^53), or a string "
        "of at most 1,000 characters."
    ),
]


def refusal(param: str, message: str) -> Invalid:
    """The error that names a field, and what is wrong with it."""
    return Invalid(f"{param}: {message}", param=param)


def one_of(left: str | None, right: str | None, name: str, other: str) -> str | None:
    """What two fields that mean the same say. Raises Invalid where they differ."""
    if left is not None and right is not None and left != right:
        raise refusal(name, f"{name} and {other} mean the same but differ; send one of them.")
    return left if left is not None else right


def named(
    name: str | None, value: bool | float | str | None
) -> tuple[str | None, bool | float | str | None]:
    """Name and value as they are stored: a thumb unless another name is given.

    Raises Invalid for a thumb that is none, and for another value without a name.
    """
    if value is None or (name is not None and name not in ("thumb", "thumbs")):
        return name, value
    thumb = thumb_of(value)
    if thumb is not None:
        return "thumb", thumb
    if name is None:
        raise refusal("name", "a value that is no thumb needs a name, for example 'score'.")
    raise refusal("value", "a thumb is true or false, 'up' or 'down', 1 or -1.")


def thumb_of(value: bool | float | str) -> bool | None:
    """Up or down; None for what is no thumb. Numbers: 1 is up, 0 and -1 are down."""
    if value == 1 or value in _UP:  # True is 1
        return True
    if value in (0, -1) or value in _DOWN:
        return False
    return None
