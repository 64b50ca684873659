"""Connections that send or read too slowly, or too much, end; those that do not go on. A real
uvicorn on loopback with the server's protocol; its app reads the whole body and answers with its
length, or as the path says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.server import ServerState

from core.connections import Connections, Limits, counted_as, room_for_connections
from core.guard import Guard
from deploy.edge.connections import GuardedH11
from server.vllm.connections import GuardedHttp

pytestmark = pytest.mark.slow

SOON_S = 0.2
"""The deadlines of most tests; what must go on takes longer than this."""
LATE_S = 15.0
"""No deadline of a test: it fails if it has to wait for this long."""

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nhost: x\r\nx-a: "
POST = b"POST / HTTP/1.1\r\nhost: x\r\n"


@dataclass
class Served:
    """A running server and what it has counted."""

    port: int
    ended: Counter[str]
    connections: Connections
    aborted: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        size = 0
        if scope["path"] != "/early":
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.aborted.append(scope["path"])
                    return
                size += len(message["body"])
                if not message["more_body"]:
                    break
        if scope["path"] == "/wait":
            self.waiting.append(scope["path"])
            await self.go.wait()
        body = b"x" * 30_000_000 if scope["path"] == "/large" else str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def dial(self, sent: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        return Client(reader, writer)


@dataclass
class Client:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def everything(self) -> bytes:
        """What comes until the server closes; it must, in time."""
        said = b""
        with contextlib.suppress(ConnectionError):
            while more := await asyncio.wait_for(self.reader.read(65_536), LATE_S):
                said += more
        self.writer.close()
        return said

    async def drip(self, pieces: Sequence[bytes], every_s: float) -> None:
        """Send a piece every so often, for ever."""
        with contextlib.suppress(ConnectionError):
            while True:
                for piece in pieces:
                    self.writer.write(piece)
                    await self.writer.drain()
                    await asyncio.sleep(every_s)

    async def answer(self) -> bytes:
        """One whole small answer on a connection that stays open."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), LATE_S)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(length)


class Serving:
    """Starts servers with limits of the test's choice."""

    def __init__(self, protocol: type[Guard]) -> None:
        self._protocol = protocol
        self._running: list[asyncio.Server] = []

    async def __call__(self, **limits: Any) -> Served:
        ended: Counter[str] = Counter()
        limits = {"head_s": LATE_S, "body_s": LATE_S, "reader_s": LATE_S, **limits}
        connections = Connections(Limits(**limits), lambda reason: ended.update([reason]))
        served = Served(0, ended, connections)
        config = uvicorn.Config(
            served.app, interface="asgi3", ws="none", log_level="critical", timeout_keep_alive=60
        )
        config.load()
        protocol = partial(
            self._protocol,
            connections,
            config=config,
            server_state=ServerState(),
            app_state={},
        )
        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, "127.0.0.1", 0)
        self._running.append(server)
        served.port = server.sockets[0].getsockname()[1]
        return served

    def stop(self) -> None:
        for server in self._running:
            server.close()


@pytest_asyncio.fixture(params=[GuardedHttp, GuardedH11])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serving]:
    serving = Serving(request.param)
    yield serving
    serving.stop()


@pytest_asyncio.fixture
async def serve_httptools() -> AsyncIterator[Serving]:
    """What h11 bounds by itself, or has no way to do."""
    serving = Serving(GuardedHttp)
    yield serving
    serving.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(LATE_S):
        while not true():
            await asyncio.sleep(0.01)


def refused(said: bytes) -> tuple[int, str]:
    """Status and code of a refusal in our envelope that closes the connection."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split()[1]), error["code"]


async def test_half_a_head_gets_its_deadline_and_a_refusal(serve: Serving) -> None:
    served = await serve(head_s=SOON_S)
    client = await served.dial(HALF)
    assert refused(await client.everything()) == (408, "timeout")
    assert served.ended == {"head": 1}


async def test_a_byte_now_and_then_buys_no_time(serve: Serving) -> None:
    served = await serve(head_s=SOON_S)
    client = await served.dial(HALF)
    dripping = asyncio.create_task(client.drip([b"a"], SOON_S / 8))
    assert refused(await client.everything()) == (408, "timeout")
    await dripping


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_that_says_nothing_is_closed_without_a_word(
    serve_httptools: Serving, sent: bytes
) -> None:
    """Clients open some to spare, and a refusal would be taken for their next request's."""
    served = await serve_httptools(head_s=SOON_S)
    client = await served.dial(sent)
    assert await client.everything() == b""
    assert served.ended == {"head": 1}


async def test_blanks_after_an_answer_do_not_hold_the_connection(serve_httptools: Serving) -> None:
    served = await serve_httptools(head_s=SOON_S)
    client = await served.dial(GET)
    assert (await client.answer()).endswith(b"0")
    dripping = asyncio.create_task(client.drip([b"\r\n"], SOON_S / 8))
    assert await client.everything() == b""
    await dripping


async def test_half_a_second_request_on_a_kept_connection_has_the_same_deadline(
    serve: Serving,
) -> None:
    served = await serve(head_s=SOON_S)
    client = await served.dial(GET)
    await client.answer()
    client.writer.write(HALF)
    assert refused(await client.everything()) == (408, "timeout")


async def test_an_idle_kept_connection_outlives_the_heads_deadline(serve: Serving) -> None:
    served = await serve(head_s=SOON_S)
    client, late = await served.dial(GET), await served.dial(HALF)
    await client.answer()
    await late.everything()  # so the deadline has passed
    client.writer.write(GET)
    assert (await client.answer()).endswith(b"0")


async def test_a_long_answer_is_not_late(serve: Serving) -> None:
    served = await serve(head_s=SOON_S, body_s=SOON_S)
    client = await served.dial(GET.replace(b"/ ", b"/wait ") + HALF)  # and half of the next
    late = await served.dial(HALF)
    await late.everything()
    served.go.set()
    assert (await client.answer()).endswith(b"0")
    assert refused(await client.everything()) == (408, "timeout")


BODIES = {
    "nothing of it": (b"content-length: 100\r\n\r\n", []),
    "less than was said": (b"content-length: 100\r\n\r\nabc", []),
    "a byte now and then": (b"content-length: 100000\r\n\r\n", [b"a"]),
    "chunks that never end": (b"transfer-encoding: chunked\r\n\r\n", [b"1\r\na\r\n"]),
    "half a chunk": (b"transfer-encoding: chunked\r\n\r\nff\r\na", []),
    "much at first": (b"content-length: 1000000\r\n\r\n" + b"a" * 50_000, [b"a"]),
}


@pytest.mark.parametrize("rest", BODIES.values(), ids=BODIES)
async def test_a_body_that_does_not_come_gets_its_deadline(
    serve: Serving, rest: tuple[bytes, list[bytes]]
) -> None:
    served = await serve(body_s=SOON_S)
    client = await served.dial(POST + rest[0])
    dripping = asyncio.create_task(client.drip(rest[1] or [b""], SOON_S / 8))
    assert refused(await client.everything()) == (408, "timeout")
    dripping.cancel()
    assert served.aborted == ["/"]
    assert served.ended == {"body": 1}


async def test_a_large_body_that_comes_is_read_however_long_it_takes(serve: Serving) -> None:
    """Eight pieces over more than two deadlines, each well over 1,000 bytes a second."""
    served = await serve(body_s=SOON_S)
    client = await served.dial(POST + b"content-length: 8000\r\n\r\n")
    for _ in range(8):
        client.writer.write(b"a" * 1_000)
        await asyncio.sleep(SOON_S / 3)
    assert (await client.answer()).endswith(b"8000")


async def test_expect_100_continue_is_answered_and_then_timed(serve: Serving) -> None:
    served = await serve(body_s=SOON_S)
    client = await served.dial(POST + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
    assert b"100 Continue" in await client.reader.readuntil(b"\r\n\r\n")
    assert refused(await client.everything()) == (408, "timeout")


async def test_who_was_answered_early_and_goes_on_sending_slowly_is_closed(serve: Serving) -> None:
    served = await serve(body_s=SOON_S)
    early = POST.replace(b"/ ", b"/early ") + b"content-length: 100000\r\n\r\n"
    client = await served.dial(early)
    dripping = asyncio.create_task(client.drip([b"a"], SOON_S / 8))
    said = await client.everything()
    dripping.cancel()
    assert said.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("reads", ["nothing", "a little"])
async def test_who_does_not_read_its_answer_is_cut_off(serve: Serving, reads: str) -> None:
    served = await serve(reader_s=SOON_S)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", served.port))
    await loop.sock_sendall(raw, GET.replace(b"/ ", b"/large "))
    async with asyncio.timeout(LATE_S):
        while not served.ended:
            if reads == "a little":
                await loop.sock_recv(raw, 100)
            await asyncio.sleep(0.01)
    assert served.ended == {"reader": 1}
    raw.close()


async def test_who_reads_is_given_all_of_it(serve: Serving) -> None:
    served = await serve(reader_s=SOON_S)
    client = await served.dial(GET.replace(b"/ ", b"/large "))
    assert len(await client.answer()) > 30_000_000


LARGE = {
    "one header": HALF + b"a" * 70_000 + b"\r\n\r\n",
    "one header without an end": HALF + b"a" * 400_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    "headers without an end": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 80_000,
    "a long address": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "a chunk's extension": POST + b"transfer-encoding: chunked\r\n\r\n1;" + b"a" * 400_000,
    "a trailer": POST + b"transfer-encoding: chunked\r\n\r\n0\r\na: " + b"a" * 400_000,
    "trailers": POST + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 80_000,
}


@pytest.mark.parametrize("sent", LARGE.values(), ids=LARGE)
async def test_what_surrounds_a_body_is_bounded(serve_httptools: Serving, sent: bytes) -> None:
    served = await serve_httptools()
    client = await served.dial(sent)
    said = await client.everything()
    assert not said or refused(said) == (431, "headers_too_large")
    assert served.ended == {"oversized": 1}


async def test_headers_and_small_chunks_as_clients_have_them_pass(serve: Serving) -> None:
    served = await serve()
    head = b"".join(b"x-%d: %s\r\n" % (at, b"a" * 200) for at in range(60))
    chunks = b"".join(b"1\r\na\r\n" for _ in range(20_000))
    client = await served.dial(
        POST + head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\nx-t: 1\r\n\r\n"
    )
    assert (await client.answer()).endswith(b"20000")
    assert not served.ended


@pytest.mark.parametrize("limits", [{"per_address": 3}, {"total": 3}])
@pytest.mark.parametrize("held", [HALF, POST + b"content-length: 9\r\n\r\n", b"", GET])
async def test_at_the_cap_the_oldest_that_keeps_us_waiting_gives_way(
    serve: Serving, limits: dict[str, int], held: bytes
) -> None:
    served = await serve(**limits)
    first, second, third = [await served.dial(held) for _ in range(3)]
    await until(lambda: len(served.connections) == 3)
    if held == GET:
        for client in (first, second, third):
            await client.answer()
    new = await served.dial(GET)
    assert (await new.answer()).endswith(b"0")
    said = await first.everything()
    assert said == b"" if held in (b"", GET) else refused(said) == (503, "too_many_connections")
    assert served.ended == dict.fromkeys(["total" if "total" in limits else "address"], 1)
    assert len(served.connections) == 3
    for client in (second, third):
        assert not client.reader.at_eof()


async def test_half_a_head_gives_way_before_a_kept_connection_and_that_before_half_a_body(
    serve: Serving,
) -> None:
    served = await serve(per_address=3)
    uploads = await served.dial(POST + b"content-length: 3\r\n\r\n")
    kept = await served.dial(GET)
    await kept.answer()
    half = await served.dial(HALF)
    await until(lambda: len(served.connections) == 3)
    new = await served.dial(GET)
    await new.answer()
    assert refused(await half.everything())[0] == 503
    newest = await served.dial(GET)
    await newest.answer()
    assert await kept.everything() == b""
    uploads.writer.write(b"abc")
    assert (await uploads.answer()).endswith(b"3")


@pytest.mark.parametrize("limits", [{"per_address": 2}, {"total": 2}])
async def test_who_is_answered_gives_way_to_nobody(serve: Serving, limits: dict[str, int]) -> None:
    served = await serve(**limits)
    answered = [await served.dial(GET.replace(b"/ ", b"/wait ")) for _ in range(2)]
    await until(lambda: len(served.waiting) == 2)
    one_more = await served.dial()
    assert refused(await one_more.everything()) == (503, "too_many_connections")
    served.go.set()
    for client in answered:
        assert (await client.answer()).endswith(b"0")
        client.writer.close()
    await until(lambda: len(served.connections) == 0)
    again = await served.dial(GET)
    assert (await again.answer()).endswith(b"0")


async def test_without_a_cap_one_address_may_have_any_number(serve: Serving) -> None:
    served = await serve(per_address=0)
    for client in [await served.dial(GET) for _ in range(50)]:
        assert (await client.answer()).endswith(b"0")


async def test_many_half_requests_are_gone_soon_and_others_answered_meanwhile(
    serve: Serving,
) -> None:
    served = await serve(head_s=SOON_S, body_s=SOON_S)
    kinds = [HALF, POST + b"content-length: 9\r\n\r\n", b"", b"P"]
    held = [await served.dial(kinds[at % 4]) for at in range(200)]
    honest = await served.dial(GET)
    assert (await honest.answer()).endswith(b"0")
    await asyncio.gather(*(client.everything() for client in held))
    await until(lambda: len(served.connections) == 1)


async def test_what_is_no_http_is_told_in_our_envelope(serve: Serving) -> None:
    served = await serve()
    client = await served.dial(b"\x16\x03\x01 what\r\n\r\n")
    assert refused(await client.everything()) == (400, "bad_request")


async def test_requests_in_one_piece_are_answered_in_their_order(serve: Serving) -> None:
    served = await serve(head_s=SOON_S)
    bodies = [POST + b"content-length: %d\r\n\r\n" % size + b"a" * size for size in (1, 2, 3)]
    client = await served.dial(b"".join(bodies))
    assert [(await client.answer())[-1:] for _ in bodies] == [b"1", b"2", b"3"]


async def test_an_upgrade_is_not_taken_and_its_request_is_answered(
    serve_httptools: Serving,
) -> None:
    served = await serve_httptools()
    client = await served.dial(
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await client.answer()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_counted_with_its_neighbours_of_one_owner(host: str, counted: str) -> None:
    assert counted_as(host) == counted


def test_connections_leave_room_for_other_files() -> None:
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 16 <= room_for_connections() <= 100_000
    assert soft == resource.RLIM_INFINITY or room_for_connections() < max(soft, 17)
