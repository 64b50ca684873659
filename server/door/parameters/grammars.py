"""What a body wants its answer to fit: schemas, expressions, choices, per endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from server.engine.grammars import Grammar, Kind


@dataclass(frozen=True, slots=True)
class Wanted:
    """One grammar, and the field it stands in."""

    grammar: Grammar
    param: str


_STRUCTURED: Mapping[str, Kind] = {
    "json": "json",
    "regex": "regex",
    "choice": "choice",
    "grammar": "grammar",
    "structural_tag": "structural_tag",
}


def wanted(body: Mapping[str, Any]) -> list[Wanted]:
    """The grammars of a body within limits. What is misshapen is left to the engine to refuse."""
    return [*_structured(body.get("structured_outputs")), *_formats(body)]


def _structured(asked: Any) -> Iterator[Wanted]:
    for name, kind in _STRUCTURED.items() if isinstance(asked, dict) else ():
        value = asked.get(name)
        if value:
            text = value if isinstance(value, str) else _json(value)
            yield Wanted(Grammar(kind, text), f"structured_outputs.{name}")


def _formats(body: Mapping[str, Any]) -> Iterator[Wanted]:
    response_format = _object(body.get("response_format"))
    if response_format.get("type") == "structural_tag":
        yield Wanted(Grammar("structural_tag", _json(response_format)), "response_format")
    elif response_format.get("type") == "json_schema":
        schema = _object(response_format.get("json_schema")).get("schema")
        yield from _schema(schema, "response_format.json_schema.schema")
    of_text = _object(_object(body.get("text")).get("format"))
    if of_text.get("type") == "json_schema":
        yield from _schema(of_text.get("schema"), "text.format.schema")
    of_output = _object(_object(body.get("output_config")).get("format"))
    yield from _schema(of_output.get("schema"), "output_config.format.schema")


def _schema(schema: Any, param: str) -> Iterator[Wanted]:
    if isinstance(schema, dict):
        yield Wanted(Grammar("json", _json(schema)), param)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
