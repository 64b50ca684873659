"""Which headers count, and the API key they carry. Pure.

Of what decides whose request it is, or where it ends, there is one or there is none: two who read
the same request must never read two different ones.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping

from core.errors import Invalid, Unauthenticated

_ONCE = frozenset(
    {
        b"authorization", b"x-api-key", b"host", b"content-length", b"content-type",
        b"transfer-encoding", b"x-attune-domain", b"x-attune-conversation",
    }
)  # fmt: skip


def read_headers(sent: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name in lower case. Raises Invalid where one that decides comes twice."""
    read: dict[bytes, bytes] = {}
    for name, value in sent:
        if name in read and name in _ONCE:
            raise Invalid(
                f"The header '{name.decode()}' came more than once. Send it once; a proxy may "
                "have added its own.",
                param=name.decode(),
                code="duplicate_header",
            )
        read[name] = value
    return read


def key_text(headers: Mapping[bytes, bytes], *, takes_basic: bool) -> str:
    """The key a request came with. Raises Unauthenticated for none, and for two that differ."""
    scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    found = {headers.get(b"x-api-key", b"").decode("latin-1")}  # how Anthropic's client sends it
    if scheme.lower() == "bearer":
        found.add(given.strip())
    elif scheme.lower() == "basic" and takes_basic:
        found.add(_password(given))
    found.discard("")
    if not found:
        raise Unauthenticated(
            "No API key. Send 'Authorization: Bearer sk-at-…'; make one with "
            "`attune keys create --tenant NAME`."
        )
    if len(found) > 1:
        raise Unauthenticated(
            "'Authorization' and 'x-api-key' carry two different keys. Send one of them."
        )
    return found.pop()


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials).decode("latin-1").partition(":")[2]
    except ValueError:
        return ""
