"""A stream's bytes as a client gets them that did not ask for token counts. Pure.

Attune has vLLM count every stream, for the record. vLLM 0.32 then sends one event more, and moves
the system's fingerprint from the choices' last events into it.
"""

from __future__ import annotations

import re

_NOTHING_CHOSEN, _COUNTS = b'"choices":[]', b'"usage":{'
_FINISHED = b'"finish_reason":"'  # of JSON itself: in a text the quotes are escaped


def as_unasked(body: bytes, fingerprint: str | None) -> bytes:
    """The events in `body`, less those that carry nothing but token counts, with the fingerprint
    where it is without them."""
    if not (_FINISHED in body or _is_usage(body)):
        return body
    events = (event for event in re.split(rb"(?<=\n\n)", body) if not _is_usage(event))
    return b"".join(_with_fingerprint(event, fingerprint) for event in events)


def _is_usage(event: bytes) -> bool:
    return _NOTHING_CHOSEN in event and _COUNTS in event


def _with_fingerprint(event: bytes, fingerprint: str | None) -> bytes:
    if not fingerprint or _FINISHED not in event or not event.endswith(b"}\n\n"):
        return event
    return event[:-3] + b',"system_fingerprint":"' + fingerprint.encode() + b'"}\n\n'
