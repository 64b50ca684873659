"""Stage: which weights answer, decided once, and the request as the engine gets it."""

from __future__ import annotations

from starlette.types import Message, Receive

from adapters.routing import engine_name
from core.ids import CompletionId
from server.answers.completion_ids import PREFIXES
from server.door.call import Call, Onward
from server.door.requests import engine_body


async def choose_route(call: Call, onward: Onward) -> None:
    """Find the version and make the answer's id. Raises NotFound for a model the tenant has not."""
    key, asked = call.key, call.asked
    call.route = await call.runtime.lookups.route(
        key.tenant_id, asked.model, end_user=asked.end_user, domain=asked.domain
    )
    adapter, version = call.route.adapter, call.route.version
    if adapter is None or version is None:
        call.engine_model = call.runtime.served_name
    else:
        call.engine_model = engine_name(key.tenant_id, adapter, version)
    token = call.runtime.signer.token(key.tenant_id)
    call.completion_id = CompletionId(PREFIXES.get(call.endpoint, "") + token)
    body = engine_body(
        asked,
        endpoint=call.endpoint,
        engine_model=call.engine_model,
        tenant_id=key.tenant_id,
        request_id=call.completion_id,
    )
    replaced = {b"x-request-id": token.encode(), b"content-length": str(len(body)).encode()}
    kept = [header for header in call.scope["headers"] if header[0] not in replaced]
    call.scope = {**call.scope, "headers": [*kept, *replaced.items()]}
    call.receive = _replay(body, call.receive)
    await onward(call)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The rewritten body once, then whatever the connection says (the disconnect)."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
