"""JSON at the edge: strict models of what is sent, and what is wrong with it in our words.

Pure. Owns how a pydantic error reads to a caller; knows nothing of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.clock import iso, moment_s
from core.errors import Invalid

_PLACES = ("body", "query", "path")
_OURS = "said_by_us"
_MAX_DEPTH = 100
_HOLDERS = (dict, list)


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


Time = Annotated[str | None, BeforeValidator(iso)]
"""A time in seconds, shown as ISO 8601."""


Moment = Annotated[
    float,
    BeforeValidator(moment_s),
    WithJsonSchema({"type": "string"}),
]
"""A time in a query: ISO 8601, in UTC where it names no zone, or seconds since the epoch."""


class View(BaseModel):
    """What is shown of a thing of ours."""

    @classmethod
    def of(cls, thing: Any, **more: Any) -> Self:
        """The view of a slotted dataclass: its fields by name, and `more` beside them."""
        fields = {name: getattr(thing, name) for name in thing.__slots__}
        return cls.model_validate({**fields, **more})


class Resource(View):
    """A thing with an id, after which a list continues."""

    id: str


def says(rule: str) -> WrapValidator:
    """Put into an `Annotated`: whatever is wrong with the value, the caller reads `rule`."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValueError as error:
            raise _said(rule) from error

    return WrapValidator(validate)


def not_an_object() -> Invalid:
    """A body that is JSON, but a list or a bare value."""
    return Invalid("The request body must be a JSON object.", code="invalid_json")


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
        return not_an_object()
    told = first["msg"].removeprefix("Value error, ")
    problem = "this field is required" if first["type"] == "missing" else told
    return Invalid(f"{param}: {problem}.", param=param)


def check_text(sent: Any) -> None:
    """Raises Invalid, naming the field, for what could not be read back as it was sent: what a
    database would have to bend, or a writer or reader of JSON break on."""
    check_depth(sent)
    for is_sound, rule in _RULES:
        if not is_sound(sent):
            raise _odd_field(sent, is_sound, rule)


def check_depth(sent: Any) -> None:
    """Raises Invalid for lists and objects nested deeper than every reader can follow."""
    if not is_shallow(sent, _MAX_DEPTH):
        raise _odd_field(
            sent, _is_shallow_field, f"at most {_MAX_DEPTH} levels of nesting are taken."
        )


def is_shallow(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested at most so deep."""
    level = [value] if isinstance(value, _HOLDERS) else []
    for _ in range(levels):  # level by level: a third of the time that recursion takes
        if not level:
            return True
        level = [inner for outer in level for inner in _held(outer) if type(inner) in _HOLDERS]
    return not level


def _held(value: Any) -> Iterable[Any]:
    """What a list or an object holds."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _odd_field(sent: Any, is_sound: Callable[[Any], bool], rule: str) -> Invalid:
    fields = sent.items() if isinstance(sent, dict) else ()
    odd = next((str(name)[:80] for name, value in fields if not is_sound(value)), None)
    return Invalid(f"{odd or 'The body'}: {rule}", param=odd)


def _is_shallow_field(value: Any) -> bool:
    return is_shallow(value, _MAX_DEPTH - 1)


def _is_counted(value: Any) -> bool:
    """Whether no whole number in it is beyond 64 bits."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return all(map(_is_counted, _held(value)))


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_without_nul(value: Any) -> bool:
    return "\\u0000" not in json.dumps(value).replace("\\\\", "")


_RULES = (
    (_is_counted, "whole numbers have at most 64 bits; send a string instead."),
    (_is_finite, "NaN and infinity are not taken."),
    (_is_unicode, "it holds half a UTF-16 pair; send valid Unicode."),
    (_is_without_nul, "it holds a NUL character; remove it."),
)


def _said(message: str, **context: str) -> PydanticCustomError:
    return PydanticCustomError(_OURS, "{message}", {"message": message, **context})
