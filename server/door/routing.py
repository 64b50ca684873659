"""Stages: which weights answer, decided once, with the request as the engine gets it; and that they
are in the engine until the answer has ended."""

from __future__ import annotations

from functools import partial

from starlette.types import Message, Receive

from adapters.routing import engine_name, route
from core.ids import CompletionId
from server.answers.completion_ids import PREFIXES
from server.door.call import COUNTING, Call, Onward
from server.door.requests import engine_body


async def choose_route(call: Call, onward: Onward) -> None:
    """Find the version and make the answer's id. Raises NotFound for a model the tenant has not."""
    key, asked = call.key, call.asked
    find = partial(
        route,
        tenant_id=key.tenant_id,
        model=asked.model,
        served_name=call.runtime.served_name,
        end_user=asked.end_user,
        domain=asked.domain,
        base_digest=call.runtime.base.digest,
    )
    call.route = await call.runtime.sync.find(find)
    adapter, version = call.route.adapter, call.route.version
    if adapter is None or version is None:
        call.engine_model = call.runtime.served_name
    else:
        call.engine_model = engine_name(key.tenant_id, adapter, version)
    token = call.runtime.signer.token(key.tenant_id, call.endpoint)
    call.completion_id = CompletionId(PREFIXES.get(call.endpoint, "") + token)
    body = engine_body(
        asked,
        endpoint=call.endpoint,
        path=call.scope["path"],
        engine_model=call.engine_model,
        tenant_id=key.tenant_id,
        request_id=call.completion_id,
    )
    replaced = {b"x-request-id": token.encode(), b"content-length": str(len(body)).encode()}
    kept = [header for header in call.scope["headers"] if header[0] not in replaced]
    call.scope = {**call.scope, "headers": [*kept, *replaced.items()]}
    call.receive = _replay(body, call.receive)
    await onward(call)


async def hold_lease(call: Call, onward: Onward) -> None:
    """Raises Unavailable if the version cannot be loaded, or no place comes free in time."""
    version = call.route.version
    if version is None:
        await onward(call)
        return
    generates = call.endpoint != COUNTING
    async with call.runtime.residency.lease(call.engine_model, version, generates=generates):
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
