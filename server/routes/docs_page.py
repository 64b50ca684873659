"""An OpenAPI document as one plain page: no script, nothing fetched from elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
details{border:1px solid #8884;border-radius:6px;margin:.4rem 0;padding:.3rem .8rem}
summary{cursor:pointer}code{font-size:.95em}td,th{text-align:left;vertical-align:top;
padding:.15rem 1rem .15rem 0}:root{color-scheme:light dark}"""


def docs_page(document: Mapping[str, Any]) -> str:
    """The whole page: the operations by tag, then the models they speak in."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    parts = [f"<h2>{escape(tag)}</h2>{''.join(shown)}" for tag, shown in by_tag.items()]
    models = document.get("components", {}).get("schemas", {})
    parts += ["<h2>models</h2>", *(_model(name, model) for name, model in models.items())]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{escape(info.get('description', ''))}</p>"
        f'<p><a href="openapi.json">openapi.json</a></p>{"".join(parts)}</html>'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    rows = [
        (field["name"], field["schema"], field.get("required", False))
        for field in operation.get("parameters", [])
    ]
    bodies = operation.get("requestBody", {}).get("content", {})
    rows += [(f"body: {kind}", body["schema"], True) for kind, body in bodies.items()]
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{escape(answer['description'])}"
        f"<td>{' | '.join(_schemas_of(answer))}"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(operation['summary'])}</summary><p>{escape(operation.get('description', ''))}"
        f"{_fields(rows)}<table>{answers}</table></details>"
    )


def _model(name: str, model: Mapping[str, Any]) -> str:
    required = model.get("required", ())
    rows = [
        (field, schema, field in required) for field, schema in model.get("properties", {}).items()
    ]
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>'
        f"<p>{escape(model.get('description', ''))}{_fields(rows)}</details>"
    )


def _fields(rows: list[tuple[str, Mapping[str, Any], bool]]) -> str:
    shown = (
        f"<tr><td><code>{escape(name)}</code><td>{_type(schema)}"
        f"<td>{'required' if required else ''} {escape(schema.get('description', ''))}"
        for name, schema, required in rows
    )
    return f"<table>{''.join(shown)}</table>"


def _schemas_of(answer: Mapping[str, Any]) -> Iterator[str]:
    for content in answer.get("content", {}).values():
        yield _type(content.get("schema", {}))


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " | ".join(_type(option) for option in schema[choice])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(escape(repr(value)) for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("type", "anything")))
