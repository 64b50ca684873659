"""GET /openapi.json and /docs: what this server can be asked, for programs and for people.

Owns the description alone: our routes describe themselves, vLLM's that tenants may reach stand
here by path, and nothing else of vLLM's is told. Needs no key, and no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.routing import BaseRoute

from server.routes.common import ERRORS
from server.routes.docs_page import docs_page

_ABOUT = """A server that learns: OpenAI's API, feedback on its answers, and adapters trained
from it. Every endpoint but the health checks needs an Attune key; what another tenant owns does
not exist."""

_ENGINE = {
    "/v1/chat/completions": "OpenAI's chat completions; `model` is `base`, `auto` or an adapter.",
    "/v1/completions": "OpenAI's text completions.",
    "/v1/responses": "OpenAI's responses.",
    "/v1/messages": "Anthropic's messages.",
    "/v1/messages/count_tokens": "How many tokens Anthropic's messages would be.",
    "/tokenize": "The tokens of a text or of chat messages.",
    "/detokenize": "The text of tokens.",
}
_OPEN = {
    "/health": "200 while the engine lives.",
    "/ping": "The same, for SageMaker.",
    "/version": "vLLM's version.",
    "/load": "How many requests are under way.",
    "/metrics": "Figures for Prometheus; from another machine with ATTUNE_METRICS_TOKEN.",
}


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
        operations.pop("head", None)  # as GET, and FastAPI gives both one operation id
    for path, text in _ENGINE.items():
        document["paths"][path] = {
            "post": {
                "tags": ["engine"],
                "summary": text,
                "operationId": "engine" + path.replace("/", "_"),
                "security": [{"HTTPBearer": []}],
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
