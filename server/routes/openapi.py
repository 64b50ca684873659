"""GET /openapi.json and /docs: what this server can be asked, for programs and for people.

Owns the description alone: our routes describe themselves, vLLM's that tenants may reach stand
here by path, and nothing else of vLLM's is told. Needs no key, and no network: the page for people
holds no script and fetches nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import ChainableUndefined, Environment
from starlette.routing import BaseRoute

from server.routes.common import ERRORS

_ABOUT = """A server that learns: OpenAI's API, feedback on its answers, and adapters trained
from it. Every endpoint but the health checks needs an Attune key; what another tenant owns does
not exist."""

_ENGINE = {
    "/v1/chat/completions": "OpenAI's chat completions; `model` is `base`, `auto` or an adapter.",
    "/v1/completions": "OpenAI's text completions.",
    "/v1/responses": "OpenAI's responses; `previous_response_id` goes on from an earlier one.",
    "/v1/messages": "Anthropic's messages.",
    "/v1/messages/count_tokens": "How many tokens Anthropic's messages would be.",
    "/tokenize": "The tokens of a text or of chat messages.",
    "/detokenize": "The text of tokens.",
}
_OPEN = {
    "/ping": "As /health, for SageMaker.",
    "/version": "vLLM's version.",
    "/load": "How many requests are under way.",
    "/metrics": "Figures for Prometheus; from another machine with ATTUNE_METRICS_TOKEN.",
}


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
</summary><p>{{ operation.description }}
  {%- if operation.security %}<p>Scope:
  {%- for one in operation.security %}{% for scopes in one.values() %} <code>{{ scopes[0] }}</code>
  {%- endfor %}{{ " or" if not loop.last }}{% endfor %}{% endif %}<table>
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


def describe_in(router: APIRouter) -> None:
    """Serve the description of what `router` has."""
    described = list(router.routes)

    @cache
    def description() -> dict[str, Any]:
        return describe(described)

    @router.get("/openapi.json", include_in_schema=False)
    async def schema() -> JSONResponse:
        return JSONResponse(description())

    @router.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(description()))


def describe(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of `routes` and of what the engine answers."""
    document = get_openapi(
        title="Attune", version=version("attune"), description=_ABOUT, routes=routes
    )
    refused = {
        "description": ERRORS["4XX"]["description"],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
    }
    for operations in document["paths"].values():
        for operation in operations.values():
            # FastAPI names all scopes at once, which reads as if every one were needed.
            operation["security"] = [
                {scheme: [scope]}
                for needed in operation.get("security", [])
                for scheme, scopes in needed.items()
                for scope in dict.fromkeys(scopes)
            ]
    for path, text in _ENGINE.items():
        document["paths"][path] = {
            "post": {
                "tags": ["engine"],
                "summary": text,
                "operationId": "engine" + path.replace("/", "_"),
                "security": [{"HTTPBearer": ["inference"]}],
                "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
                "responses": {"200": {"description": "As the engine answers."}, "4XX": refused},
            }
        }
    for path, text in _OPEN.items():
        document["paths"][path] = {
            "get": {
                "tags": ["health"],
                "summary": text,
                "operationId": path[1:],
                "responses": {"200": {"description": text}},
            }
        }
    return document


def docs_page(document: Mapping[str, Any]) -> str:
    """The whole page: the operations by tag, then the models they speak in."""
    by_tag: dict[str, list[tuple[str, str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append((method, path, operation))
    template = Environment(autoescape=True, undefined=ChainableUndefined).from_string(_PAGE)
    return template.render(document, by_tag=by_tag)
