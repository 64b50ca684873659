"""Stage: whose request it is, by the API key alone."""

from __future__ import annotations

from collections.abc import Mapping

from core.clock import now_s
from core.errors import Unauthenticated
from core.identity.keys import require, split_key, verify
from server.door.call import Call, Onward


async def check_key(call: Call, onward: Onward) -> None:
    """Unauthenticated without a valid key, Forbidden without the scope for inference; our own
    routes find the key in the request's state and say themselves which scope they need."""
    public_id, secret_sha256 = split_key(_key_text(call.headers))
    call.key = verify(await call.runtime.lookups.key(public_id), secret_sha256, now_s())
    call.scope.setdefault("state", {})["attune_key"] = call.key
    if call.endpoint is not None:
        require(call.key, "inference")
    await onward(call)


def _key_text(headers: Mapping[bytes, bytes]) -> str:
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    if authorization[:7].lower() == "bearer ":
        text = authorization[7:].strip()
    else:
        text = headers.get(b"x-api-key", b"").decode("latin-1")  # how Anthropic's client sends it
    if not text:
        raise Unauthenticated(
            "No API key. Send 'Authorization: Bearer sk-at-…'; make one with "
            "`attune keys create --tenant NAME`."
        )
    return text
