"""Stage: whose request it is, by the API key alone."""

from __future__ import annotations

import base64

from core.clock import now_s
from core.errors import Unauthenticated
from core.identity.keys import require, split_key, verify
from server.door.call import Call, Onward


async def check_key(call: Call, onward: Onward) -> None:
    """Unauthenticated without a valid key, Forbidden without the scope for inference; our own
    routes find the key in the request's state and say themselves which scope they need."""
    public_id, secret_sha256 = split_key(_key_text(call))
    call.key = verify(await call.runtime.lookups.key(public_id), secret_sha256, now_s())
    call.scope.setdefault("state", {})["attune_key"] = call.key
    if call.endpoint:
        require(call.key, "inference")
    await onward(call)


def _key_text(call: Call) -> str:
    scheme, _, given = call.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        text = given.strip()
    elif scheme.lower() == "basic" and call.own and call.own.takes_basic:
        text = _password(given)
    else:  # how Anthropic's client sends it
        text = call.headers.get(b"x-api-key", b"").decode("latin-1")
    if not text:
        raise Unauthenticated(
            "No API key. Send 'Authorization: Bearer sk-at-…'; make one with "
            "`attune keys create --tenant NAME`."
        )
    return text


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials).decode("latin-1").partition(":")[2]
    except ValueError:
        return ""
