"""Bodies: how long they may be, and what is no request."""

from __future__ import annotations

import pytest
from support.asgi import Door


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/feedback", "/tokenize"])
async def test_a_body_over_the_limit_is_refused_however_it_comes(door: Door, path: str) -> None:
    door.key = door.new_key("admin")
    big = b'{"model":"base","x":"' + b"x" * 20_000 + b'"}'
    told = [(b"content-length", str(len(big)).encode())]
    lied = [(b"content-length", b"5")]
    pieces = [big[at : at + 1000] for at in range(0, len(big), 1000)]
    for headers in (told, lied, []):
        assert (await door.call(path, headers=headers, pieces=pieces)).status == 413
    assert (await door.call(path, big)).status == 413
    assert door.vllm.asked == []


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b"[" * 9000, b'{"model":5}'])
async def test_a_body_that_is_no_request_is_refused(door: Door, raw: bytes) -> None:
    assert (await door.call("/v1/chat/completions", raw)).status == 400
    assert door.vllm.asked == []


async def test_a_client_that_leaves_while_sending_asked_nothing(door: Door) -> None:
    await door.call("/v1/chat/completions", pieces=[])
    assert door.vllm.asked == []


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/feedback", 10_000),
        ("/v1/adapters/support/versions", 30_000),
        ("/v1/edge/sync", 4_000_000),
    ],
)
async def test_each_of_our_routes_has_the_limit_it_declares(
    door: Door, path: str, allowed: int
) -> None:
    door.runtime.settings.max_upload_bytes = 30_000
    for size, too_large in ((allowed, False), (allowed + 1, True)):
        told = [(b"content-length", str(size).encode())]
        reply = await door.call(path, b"{}", headers=told)
        assert (reply.status == 413) is too_large
