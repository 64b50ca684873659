"""Routes whose bodies are still read by hand (runs, exports); goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request

from core.errors import Invalid
from core.identity.keys import require
from core.identity.types import ApiKey, Scope
from server.runtime import Runtime


def runtime_of(request: Request) -> Runtime:
    """The running server's parts."""
    runtime: Runtime = request.app.state.attune
    return runtime


def key_with(request: Request, scope: Scope) -> ApiKey:
    """The caller's key (the gateway has verified it). Raises Forbidden without `scope`."""
    key: ApiKey = request.state.attune_key
    require(key, scope)
    return key


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object; Invalid otherwise. An empty body is an empty object."""
    raw = await request.body()
    if not raw.strip():
        return {}
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The request body is not valid JSON: {error}.", code="invalid_json") from (
            error
        )
    if not isinstance(body, dict):
        raise Invalid("The request body must be a JSON object.", code="invalid_json")
    return body


def take(body: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raises Invalid naming the first field that is not `known`."""
    for name in body:
        if name not in known:
            raise Invalid(
                f"Unknown field '{name[:80]}'. Known: {', '.join(known)}.", param=name[:80]
            )


def page(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """OpenAI's list envelope; the next page is asked for with `after=<last_id>`."""
    return {
        "object": "list",
        "data": list(data),
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def limit_of(request: Request, default: int = 20) -> int:
    """The `limit` query parameter, 1 to 200."""
    limit = whole_number(request.query_params.get("limit", str(default)))
    if limit is None or not 1 <= limit <= 200:
        raise Invalid("limit must be a whole number from 1 to 200.", param="limit")
    return limit


def whole_number(text: str) -> int | None:
    """0 to 10^18 - 1 from its decimal digits, None for any other text."""
    # str.isdigit alone takes '²', which int() does not; and int() takes no text without end.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
