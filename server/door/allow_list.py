"""Stage: what may be asked at all. Everything that is not listed here does not exist."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from core.errors import Invalid, NotFound, Unauthenticated
from server.answers.transcript import ENDPOINTS
from server.door.call import COUNTING, Call, Onward
from server.own_route import OwnRoute

_ENGINE = ENDPOINTS | dict.fromkeys(
    ("/tokenize", "/detokenize", "/v1/messages/count_tokens"), COUNTING
)
_OPEN = frozenset({"/health", "/ping", "/version", "/load"})
_DESCRIPTION = frozenset({"/openapi.json", "/docs"})


class AllowList:
    """Lets through vLLM's endpoints listed above and `own`, the routes of our own.

    Health and the description of our API need no key: they are answered at once.
    """

    def __init__(self, own: Sequence[OwnRoute]) -> None:
        self._own = own
        self._open = _OPEN | (_DESCRIPTION & {route.path for route in own})

    async def __call__(self, call: Call, onward: Onward) -> None:
        path, method = call.scope["path"], call.scope["method"]
        if path in self._open:
            await call.answer()
            return
        if path == "/metrics":
            _check_metrics(call)
            await call.answer()
            return
        call.endpoint = _ENGINE.get(path, "")
        if not call.endpoint:
            call.own = next((route for route in self._own if route.form.fullmatch(path)), None)
        if not (call.own or (call.endpoint and method == "POST")):
            raise NotFound(f"No such endpoint: {method} {path[:200]}.")
        if "\0" in path or b"%00" in call.scope.get("query_string", b""):
            raise Invalid("The address holds a NUL character.")  # Postgres takes none, SQLite does
        await onward(call)


def _check_metrics(call: Call) -> None:
    token = call.runtime.settings.metrics_token
    if token:
        given = call.headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise Unauthenticated("/metrics needs the bearer token set in ATTUNE_METRICS_TOKEN.")
        return
    client = (call.scope.get("client") or ("",))[0]
    if client not in ("127.0.0.1", "::1", ""):
        raise Unauthenticated(
            "/metrics answers this machine only, until ATTUNE_METRICS_TOKEN sets a bearer token."
        )
