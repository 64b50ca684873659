"""What JSON from outside may say: strict models of it, and what is wrong with it in our words.

Pure. Owns how a pydantic error reads to a caller; knows nothing of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.errors import Invalid

_PLACES = ("body", "query", "path")
_OURS = "said_by_us"


class Body(BaseModel):
    """A request's body, or a part of one: no field it does not know, nothing made of another type.

    Strict, because pydantic must not make 1 of true, or "1" of 1.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _know_every_field(cls, sent: Any) -> Any:
        for name in sent if isinstance(sent, Mapping) else ():
            if name not in cls.model_fields:
                near = get_close_matches(str(name), cls.model_fields, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                known = ", ".join(cls.model_fields)
                shown = str(name)[:80]
                message = f"Unknown field '{shown}'{hint or '.'} Known: {known}."
                raise _said(message, field=shown)
        return sent


class Resource(BaseModel):
    """What HTTP shows of one thing."""

    id: str


def says(rule: str) -> WrapValidator:
    """Put into an `Annotated`: whatever is wrong with the value, the caller reads `rule`."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValueError as error:
            raise _said(rule) from error

    return WrapValidator(validate)


def invalid(errors: Sequence[Any]) -> Invalid:
    """What pydantic found, as the caller reads it: the first of it, and the field by its path."""
    first = errors[0]
    where = [str(part) for part in first["loc"]]
    if where and where[0] in _PLACES:
        del where[0]
    context = first.get("ctx", {})
    if "field" in context:
        where.append(context["field"])
    param = ".".join(where)[:200]
    if first["type"] == _OURS:
        return Invalid(context["message"], param=param or None)
    if not param:
        return Invalid("The request body must be a JSON object.", code="invalid_json")
    problem = "this field is required" if first["type"] == "missing" else first["msg"]
    return Invalid(f"{param}: {problem}.", param=param)


def check_text(sent: Any) -> str:
    """The JSON of `sent`. Raises Invalid for text and numbers a database would have to bend."""
    try:
        text = json.dumps(sent, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid("The text holds half a UTF-16 pair; send valid Unicode.") from error
    except (ValueError, RecursionError) as error:
        raise Invalid("NaN, infinity and endless nesting are not taken.") from error
    if "\\u0000" in text.replace("\\\\", ""):
        raise Invalid("The text holds a NUL character; remove it.")
    return text


def _said(message: str, **context: str) -> PydanticCustomError:
    return PydanticCustomError(_OURS, "{message}", {"message": message, **context})
