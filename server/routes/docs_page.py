"""An OpenAPI document as one plain page: no script, nothing fetched from elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import ChainableUndefined, Environment

_PAGE = """
{%- macro type(schema) -%}
  {%- set choices = schema.anyOf or schema.oneOf or schema.allOf -%}
  {%- if "$ref" in schema -%}
    {%- set name = schema["$ref"].rpartition("/")[2] -%}<a href="#{{ name }}">{{ name }}</a>
  {%- elif choices -%}
    {%- for one in choices %}{{ type(one) }}{{ " | " if not loop.last }}{% endfor -%}
  {%- elif "const" in schema or "enum" in schema -%}
    {{ (schema.enum or [schema.const]) | map("pprint") | join(" | ") }}
  {%- elif schema.type == "array" -%}list of {{ type(schema["items"] or {}) }}
  {%- else -%}{{ schema.type or "anything" }}
  {%- endif -%}
{%- endmacro -%}

{%- macro field(name, schema, required) -%}
  <tr><td><code>{{ name }}</code><td>{{ type(schema) }}
  <td>{{ "required" if required }} {{ schema.description }}
{%- endmacro -%}

<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ info.title }} {{ info.version }}
</title><style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;
padding:0 1rem}details{border:1px solid #8884;border-radius:6px;margin:.4rem 0;padding:.3rem .8rem}
summary{cursor:pointer}code{font-size:.95em}td,th{text-align:left;vertical-align:top;
padding:.15rem 1rem .15rem 0}:root{color-scheme:light dark}</style>
<h1>{{ info.title }} {{ info.version }}</h1><p>{{ info.description }}
<p><a href="openapi.json">openapi.json</a>

{%- for tag, operations in by_tag.items() %}<h2>{{ tag }}</h2>
{%- for method, path, operation in operations %}
<details><summary><b>{{ method | upper }}</b> <code>{{ path }}</code> {{ operation.summary -}}
</summary><p>{{ operation.description }}<table>
{%- for one in operation.parameters %}{{ field(one.name, one.schema, one.required) }}{% endfor %}
{%- for kind, body in (operation.requestBody.content or {}).items() -%}
  {{ field("body: " + kind, body.schema, true) }}{% endfor %}</table><table>
{%- for status, answer in operation.responses.items() %}
  <tr><td>{{ status }}<td>{{ answer.description }}
  <td>{% for content in (answer.content or {}).values() %}{{ type(content.schema) }}{% endfor %}
{%- endfor %}</table></details>
{%- endfor %}{% endfor %}

<h2>models</h2>
{%- for name, model in components.schemas.items() %}
<details id="{{ name }}"><summary><code>{{ name }}</code></summary><p>{{ model.description }}<table>
{%- for name, schema in (model.properties or {}).items() -%}
  {{ field(name, schema, name in model.required) }}{% endfor %}</table></details>
{%- endfor %}</html>
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """The whole page: the operations by tag, then the models they speak in."""
    by_tag: dict[str, list[tuple[str, str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append((method, path, operation))
    template = Environment(autoescape=True, undefined=ChainableUndefined).from_string(_PAGE)
    return template.render(document, by_tag=by_tag)
