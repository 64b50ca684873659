"""The door, with everything real behind it but the engine: a small app stands for vLLM."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import sqlalchemy as sa
from fastapi import FastAPI
from safetensors.numpy import save_file
from sqlalchemy.exc import OperationalError

from adapters.types import Learning
from adapters.validate import BaseModel, validate_adapter
from core.held import HeldConnection
from core.identity.types import SCOPES, Scope
from core.ids import CompletionId
from core.settings import Settings
from deploy.kinds import KINDS
from feedback.types import Interaction
from server.answers.recorder import Recorder
from server.door.gateway import Gateway
from server.routes import attach
from server.runtime import Runtime, start

Q = "model.layers.0.self_attn.q_proj"
BASE = BaseModel("tiny", {Q: (6, 4)})
DONE = b"data: [DONE]\n\n"


class Engine:
    """Adapters in memory."""

    def __init__(self) -> None:
        self.loaded: dict[int, str] = {}

    async def load(self, name: str, engine_id: int, path: Path) -> None:
        assert path.is_absolute()
        self.loaded[engine_id] = name

    async def unload(self, name: str, engine_id: int) -> None:
        del self.loaded[engine_id]


@dataclass
class Vllm:
    """Stands for vLLM's app: keeps what it was asked, answers as it is told.

    `chunks`: the bodies of an event stream; an entry may also be a coroutine function to wait
    for. None: one JSON document. `cut`: return after the last chunk as if the client had gone.
    """

    ours: FastAPI
    chunks: Sequence[Any] | None = None
    document: Any = field(default_factory=lambda: chat("Hello"))
    status: int = 200
    cut: bool = False
    asked: list[tuple[str, dict[bytes, bytes], Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith(("/v1/models", "/v1/adapters", "/v1/feedback", "/v1/runs")):
            await self.ours(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.asked.append((scope["path"], dict(scope["headers"]), json.loads(body or b"null")))
        kind = b"application/json" if self.chunks is None else b"text/event-stream; charset=utf-8"
        headers = [(b"content-type", kind), (b"x-request-id", b"vllm's own")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.chunks is None:
            await send({"type": "http.response.body", "body": json.dumps(self.document).encode()})
            return
        for chunk in self.chunks:
            if callable(chunk):
                await chunk()
            else:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not self.cut:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def chat(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def delta(text: str) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'


@dataclass
class Reply:
    """What the client got, message by message."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [m for m in self.messages if m["type"] == "http.response.start"]

    @property
    def status(self) -> int:
        assert len(self.starts) == 1
        return int(self.starts[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.starts[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.messages)

    @property
    def error(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)["error"]
        return read


class Door:
    """A running server without an engine, and a client for it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        app = FastAPI()
        attach(app, KINDS)
        app.state.attune = runtime
        self.vllm = Vllm(app)
        self.gateway = Gateway(self.vllm, lambda: self.runtime)
        self.tenant = runtime.tenants.create("acme")
        self.key = self.new_key("inference", "feedback", "train")

    def new_key(self, *scopes: Scope, tenant: str | None = None) -> str:
        owner = runtime_tenant(self.runtime, tenant) if tenant else self.tenant
        return self.runtime.tenants.create_key(owner.id, frozenset(scopes))[1]

    async def call(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        key: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        pieces: Sequence[bytes] | None = None,
        query: bytes = b"",
        reply: Reply | None = None,
    ) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        parts = list(pieces if pieces is not None else [raw])
        given = list(headers)
        key = self.key if key is None else key
        if key:
            given.append((b"authorization", b"Bearer " + key.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": given,
            "client": ("10.0.0.9", 1),
        }
        got = reply or Reply()

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            got.messages.append(dict(message))

        await self.gateway(scope, receive, send)
        return got

    async def chat(self, model: str = "base", **fields: Any) -> Reply:
        messages = [{"role": "user", "content": "Hi"}]
        return await self.call(
            "/v1/chat/completions", {"model": model, "messages": messages, **fields}
        )

    def recorded(self) -> list[Interaction]:
        """What is in the database, oldest first."""
        return list(reversed(self.runtime.interactions.list(self.tenant.id, limit=200).items))

    def push(self, name: str, folder: Path, fill: float = 1.0) -> int:
        """Register a new version of `name` (made if need be) and make it live."""
        runtime = self.runtime
        folder.mkdir(exist_ok=True)
        stem = f"base_model.model.{Q}"
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        tensors = {
            f"{stem}.lora_A.weight": np.full((2, 4), fill, np.float32),
            f"{stem}.lora_B.weight": np.zeros((6, 2), np.float32),
        }
        save_file(tensors, folder / "adapter_model.safetensors")
        found = [a for a in runtime.registry.adapters(self.tenant.id) if a.name == name]
        never = Learning(exploration=0.0)
        adapter = (
            found[0] if found else runtime.registry.create(self.tenant.id, name, learning=never)
        )
        info = validate_adapter(folder, BASE, max_rank=16)
        runtime.artifacts.put_folder(folder)
        version = runtime.registry.add_version(adapter.id, info, source="upload")
        runtime.registry.activate(adapter, version.number, actor="test", reason="")
        return version.engine_id


def runtime_tenant(runtime: Runtime, name: str) -> Any:
    known = {tenant.name: tenant for tenant in runtime.tenants.all()}
    return known.get(name) or runtime.tenants.create(name)


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Its follower sleeps for an hour: what is seen at once is seen without its help."""
    settings = Settings(home=tmp_path, sync_interval_s=3600.0, max_body_bytes=10_000)
    runtime = await start(
        settings, Engine(), base=BASE, served_name="town", max_model_len=512, kinds=KINDS
    )
    yield Door(runtime)
    await runtime.stop()


HIDDEN = [
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/invocations", "/sleep",
    "/wake_up", "/scale_elastic_ep", "/is_scaling_elastic_ep", "/collective_rpc", "/pause",
    "/resume", "/reset_prefix_cache", "/server_info", "/start_profile", "/docs", "/openapi.json",
    "/v1/embeddings", "/pooling", "/score", "/rerank", "/inference/v1/generate", "/tokenizer_info",
    "//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "/V1/models",
    "/v1/chat/completions/../../load_lora_adapter", "/v1/./models", "/v1/modelsx", "/v1/model",
    "/v1/chat/completions\x00", "/v1/chat/completions\n", "/v1/models\n", "/metrics/", "/", "",
    "/%2e%2e/v1/models", "/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/health/x",
    "/v1/audio/transcriptions", "/tokenize/", "/v2/rerank", "/v1/feedback2", "/generate",
]  # fmt: skip


@pytest.mark.parametrize("path", HIDDEN)
async def test_nothing_of_vllm_that_is_not_listed_exists(door: Door, path: str) -> None:
    for method in ("GET", "POST"):
        reply = await door.call(path, {"model": "base"}, method=method)
        assert reply.status == 404
        assert reply.error["type"] == "not_found_error"
    assert door.vllm.asked == []


@pytest.mark.parametrize(
    "path", ["/v1/models/../load_lora_adapter", "/v1/models/x/y", "/v1/feedback/../../sleep"]
)
async def test_our_own_prefixes_lead_nowhere_else(door: Door, path: str) -> None:
    assert (await door.call(path, method="GET")).status == 404
    assert (await door.call(path, {})).status in (404, 405)
    assert door.vllm.asked == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize", "/v1/messages"])
async def test_inference_is_asked_by_post_alone(door: Door, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert (await door.call(path, {"model": "base"}, method=method)).status == 404
    assert door.vllm.asked == []


async def test_health_needs_no_key_and_metrics_not_from_afar(door: Door) -> None:
    assert (await door.call("/health", key="", method="GET")).status == 200
    assert (await door.call("/metrics", key="", method="GET")).status == 401
    door.runtime.settings.metrics_token = "secret"
    for given, status in ((b"Bearer secret", 200), (b"Bearer x", 401), (b"secret", 401)):
        headers = [(b"authorization", given)]
        reply = await door.call("/metrics", key="", headers=headers, method="GET")
        assert reply.status == status


async def test_websockets_are_closed(door: Door) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await door.gateway({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)
    assert [m["type"] for m in sent] == ["websocket.close"]
    assert door.vllm.asked == []


async def test_before_the_server_is_ready_it_says_so(door: Door) -> None:
    gateway = Gateway(door.vllm, lambda: None)
    door.gateway = gateway
    assert (await door.chat()).status == 503


@pytest.mark.parametrize("key", ["", "x", "sk-at-aaaaaaaaaaaa-" + "a" * 48, "é", "Bearer x"])
async def test_without_a_key_of_ours_nothing_is_asked_or_told(door: Door, key: str) -> None:
    for path in ("/v1/chat/completions", "/v1/models", "/v1/feedback", "/tokenize"):
        reply = await door.call(path, {"model": "base"}, key=key)
        assert reply.status == 401
    assert door.vllm.asked == []


async def test_a_key_works_the_moment_it_is_made_and_dies_with_its_revocation(door: Door) -> None:
    key = door.new_key("inference")
    body = {"model": "base", "messages": []}
    assert (await door.call("/v1/chat/completions", body, key=key)).status == 200
    door.runtime.tenants.revoke_key(key)
    await door.runtime.sync.refresh()
    assert (await door.call("/v1/chat/completions", body, key=key)).status == 401


async def test_anthropics_key_header_opens_too(door: Door) -> None:
    headers = [(b"x-api-key", door.key.encode())]
    body = {"model": "base", "messages": []}
    door.vllm.document = {"content": [{"type": "text", "text": "Hi"}]}
    assert (await door.call("/v1/messages", body, key="", headers=headers)).status == 200


@pytest.mark.parametrize("scope", SCOPES)
async def test_inference_needs_its_scope(door: Door, scope: Scope) -> None:
    reply = await door.call(
        "/v1/chat/completions", {"model": "base", "messages": []}, key=door.new_key(scope)
    )
    assert reply.status == (200 if scope in ("inference", "admin") else 403)


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


async def test_the_engine_sees_its_names_and_the_client_chooses_no_id(
    door: Door, tmp_path: Path
) -> None:
    door.push("support", tmp_path / "a")
    headers = [(b"x-request-id", b"chosen"), (b"content-length", b"20")]
    body = {"model": "support", "messages": [], "request_id": "chosen"}
    reply = await door.call("/v1/chat/completions", body, headers=headers)
    _, seen, asked = door.vllm.asked[0]
    completion_id = reply.headers[b"x-request-id"].decode()
    assert asked["model"] == f"{door.tenant.id}/support@1"
    assert asked["cache_salt"] == door.tenant.id
    assert seen[b"x-request-id"].decode() == completion_id.removeprefix("chatcmpl-") != "chosen"
    assert int(seen[b"content-length"]) == len(json.dumps(asked, separators=(",", ":")))
    assert door.runtime.signer.issued_to(completion_id, door.tenant.id)
    assert reply.headers[b"x-attune-version"] == b"support@1"
    (kept,) = door.recorded()
    assert (kept.id, kept.version, kept.model_answered) == (completion_id, 1, "support@1")
    assert (kept.model_requested, kept.answers, kept.outcome) == (
        "support",
        ("Hello",),
        "completed",
    )


async def test_an_unknown_model_and_another_tenants_read_the_same(
    door: Door, tmp_path: Path
) -> None:
    door.push("secret", tmp_path / "a")
    stranger = door.new_key("inference", tenant="stranger")
    messages = []
    for name in ("secret", "nobody", "secret@1", "nobody@1"):
        body = {"model": name, "messages": []}
        reply = await door.call("/v1/chat/completions", body, key=stranger)
        assert reply.status == 404
        messages.append(reply.error["message"].replace(name, "*"))
    assert len(set(messages)) == 1
    assert door.vllm.asked == []


async def test_an_error_of_the_engine_passes_and_is_no_interaction(door: Door) -> None:
    door.vllm.status, door.vllm.document = 400, {"error": {"message": "too long"}}
    reply = await door.chat()
    assert reply.status == 400
    assert b"too long" in reply.body
    assert b"x-attune-version" not in reply.headers
    assert door.recorded() == []


async def test_a_stream_is_passed_on_as_it_comes_and_recorded(door: Door) -> None:
    door.vllm.chunks = [delta("Hel"), delta("lo"), DONE]
    reply = await door.chat(stream=True)
    assert reply.body == delta("Hel") + delta("lo") + DONE
    assert reply.headers[b"x-attune-version"] == b"town"
    (kept,) = door.recorded()
    assert (kept.answers, kept.outcome, kept.version) == (("Hello",), "completed", None)


class Held:
    """An append that waits to be let go, or fails."""

    def __init__(self, door: Door, error: Exception | None = None) -> None:
        self.go, self.error = threading.Event(), error
        self._append = door.runtime.interactions.append
        self._former = door.runtime.recorder
        self._former.close()
        door.runtime.recorder = Recorder(self.append, give_up_s=0.01)

    def append(self, batch: Sequence[Interaction]) -> None:
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        self._append(batch)


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_last_bytes_wait_for_the_commit(door: Door, stream: bool) -> None:
    held = Held(door)
    reply = Reply()
    door.vllm.chunks = [delta("Hello"), DONE] if stream else None
    body = {"model": "base", "messages": [], "stream": stream}
    task = asyncio.create_task(door.call("/v1/chat/completions", body, reply=reply))
    if stream:
        await until(lambda: delta("Hello") in reply.body)
    for _ in range(50):
        await asyncio.sleep(0.001)
    assert b"[DONE]" not in reply.body
    assert reply.body == (delta("Hello") if stream else b"")
    assert not task.done()
    held.go.set()
    await task
    assert (DONE if stream else b"Hello") in reply.body
    assert len(door.recorded()) == 1


async def test_a_whole_answer_that_cannot_be_stored_is_withheld(door: Door) -> None:
    Held(door, OSError("disk full")).go.set()
    reply = await door.chat()
    assert reply.status == 503
    assert b"Hello" not in reply.body


async def test_a_stream_that_cannot_be_stored_breaks_before_its_end(door: Door) -> None:
    """No second start is sent, no end: the server closes the connection, the client notices."""
    Held(door, OSError("disk full")).go.set()
    door.vllm.chunks = [delta("Hello"), DONE]
    reply = Reply()
    body = {"model": "base", "messages": [], "stream": True}
    with pytest.raises(Exception, match="could not be stored"):
        await door.call("/v1/chat/completions", body, reply=reply)
    assert len(reply.starts) == 1
    assert reply.body == delta("Hello")
    assert all(m.get("more_body") for m in reply.messages[1:])


@pytest.mark.parametrize("parting", ["returns", "is cancelled"])
async def test_a_client_that_leaves_midway_leaves_the_part_it_got(door: Door, parting: str) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    tail: list[Callable[[], Awaitable[None]]] = [cancelled] if parting == "is cancelled" else []
    door.vllm.chunks, door.vllm.cut = [delta("Hel"), delta("lo"), *tail], True
    task = asyncio.create_task(door.chat(stream=True))
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(door.runtime.recorder.close)
    (kept,) = door.recorded()
    assert (kept.outcome, kept.answers) == ("cancelled", ("Hello",))


async def test_an_answer_is_alone_only_while_no_other_is_under_way(door: Door) -> None:
    """Else the others would wait in the event loop for its commit."""
    seen: list[bool] = []
    commit = door.runtime.recorder.commit

    async def noting(build: Any, *, alone: bool = False) -> None:
        seen.append(alone)
        await commit(build, alone=alone)

    door.runtime.recorder.commit = noting  # type: ignore[method-assign]
    await door.chat()
    began, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        began.set()
        await go.wait()

    door.vllm.chunks = [delta("Hel"), hold, DONE]
    slow = asyncio.create_task(door.chat(stream=True))
    await began.wait()
    door.vllm.chunks = None
    await door.chat()
    go.set()
    await slow
    assert seen == [True, False, True]


async def test_requests_that_come_to_nothing_are_not_counted_as_under_way(door: Door) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    door.vllm.chunks, door.vllm.cut = [delta("Hel"), cancelled], True
    await asyncio.gather(
        door.chat(stream=True), door.chat("unknown"), door.chat(""), return_exceptions=True
    )
    assert door.runtime.being_answered == 0


async def test_an_answer_that_quotes_the_end_is_recorded_whole(door: Door) -> None:
    said = ["Say data: [DONE]\n\n", "data: [DONE]", '{"choices":[],"usage":{"x":1}}', " bye"]
    door.vllm.chunks = [*(delta(text) for text in said), DONE]
    reply = await door.chat(stream=True)
    assert reply.body == b"".join(door.vllm.chunks)
    (kept,) = door.recorded()
    assert kept.answers == ("".join(said),)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("packed", [True, False])
async def test_token_counts_are_kept_always_and_shown_when_asked_for(
    door: Door, asked: bool, packed: bool
) -> None:
    """`packed`: the last events come in one piece; only the counts may be taken out of it."""
    tail = [delta("lo") + USAGE + DONE] if packed else [delta("lo"), USAGE, DONE]
    door.vllm.chunks = [delta("Hel"), *tail]
    options = {"stream_options": {"include_usage": True}} if asked else {}
    reply = await door.chat(stream=True, **options)
    assert reply.body == delta("Hel") + delta("lo") + (USAGE if asked else b"") + DONE
    assert door.vllm.asked[0][2]["stream_options"]["include_usage"] is True
    (kept,) = door.recorded()
    assert (kept.prompt_tokens, kept.completion_tokens) == (3, 2)
    assert (kept.outcome, kept.answers) == ("completed", ("Hello",))


async def test_a_version_pushed_a_moment_ago_answers_at_once(door: Door, tmp_path: Path) -> None:
    door.push("support", tmp_path / "a")
    assert (await door.chat("support")).headers[b"x-attune-version"] == b"support@1"
    door.push("support", tmp_path / "b", fill=2.0)
    await door.runtime.sync.refresh()
    assert (await door.chat("support")).headers[b"x-attune-version"] == b"support@2"
    assert (await door.chat("support@1")).headers[b"x-attune-version"] == b"support@1"


async def test_a_version_whose_weights_are_gone_is_unavailable_not_unknown(
    door: Door, tmp_path: Path
) -> None:
    engine_id = door.push("support", tmp_path / "a")
    (version,) = door.runtime.registry.versions()
    assert version.engine_id == engine_id
    weights = door.runtime.artifacts.folder(version.digest) / "adapter_model.safetensors"
    weights.unlink()
    reply = await door.chat("support@1")
    assert reply.status == 503
    assert door.recorded() == []


async def test_while_the_database_is_away_known_keys_work_and_others_are_asked_to_wait(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.runtime.sync.refresh()
    unknown = door.new_key("inference")

    def away(_: HeldConnection) -> AbstractContextManager[sa.Connection]:
        raise OperationalError("SELECT", {}, OSError("connection refused"))

    monkeypatch.setattr(HeldConnection, "transaction", away)
    assert (await door.chat()).status == 200
    body = {"model": "base", "messages": []}
    assert (await door.call("/v1/chat/completions", body, key=unknown)).status == 503
    assert (await door.chat("nobody")).status == 503


async def test_many_who_ask_at_once_for_an_adapter_just_made_are_all_answered(door: Door) -> None:
    """None of them may be told that it does not exist while one looks."""
    await door.runtime.sync.refresh()
    door.runtime.registry.create(door.tenant.id, "fresh", learning=Learning())
    replies = await asyncio.gather(*(door.chat("fresh") for _ in range(60)))
    assert {reply.status for reply in replies} == {200}


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("POST", "/v1/adapters/support/activate", b"", {"version": 10**30}),
        ("POST", "/v1/adapters/support/activate", b"", {"version": 1, "generation": 10**30}),
        ("POST", "/v1/adapters/support/activate", b"", {"version": 1, "generation": True}),
        ("POST", "/v1/adapters/support/activate", b"", {"version": 1.5}),
        ("POST", "/v1/adapters/a%00b/activate", b"", {"version": 1}),
        ("POST", "/v1/adapters", b"", {"name": "x", "scope": ["user"], "subject": "a"}),
        ("POST", "/v1/adapters", b"", {"name": "x", "scope": "user", "subject": "a\x00"}),
        ("POST", "/v1/adapters", b"", {"name": "x", "learning": {"exploration": 2}}),
        ("POST", "/v1/adapters", b"", {"name": "../x"}),
        ("POST", "/v1/adapters/support/versions", b"", {}),
        ("GET", "/v1/adapters/a\x00b", b"", None),
        ("GET", "/v1/feedback", "limit=²".encode(), None),
        ("GET", "/v1/feedback", b"limit=%C2%B2", None),
        ("GET", "/v1/feedback", b"limit=0", None),
        ("GET", "/v1/runs", b"limit=" + b"9" * 5000, None),
        ("GET", "/v1/runs/run_x/events", b"after=%C2%B2", None),
        ("POST", "/v1/runs", b"", {"adapter": "\x00"}),
        ("GET", "/v1/models/nobody", b"", None),
    ],
)  # fmt: skip
async def test_odd_values_are_the_callers_mistake_not_the_servers(
    door: Door, tmp_path: Path, method: str, path: str, query: bytes, body: Any
) -> None:
    door.push("support", tmp_path / "a")
    raw = b"" if body is None else body
    reply = await door.call(path, raw, method=method, query=query)
    assert 400 <= reply.status < 500
    assert set(reply.error) == {"message", "type", "param", "code"}


async def test_feedback_is_taken_for_answers_given_to_this_tenant_only(door: Door) -> None:
    completion_id = (await door.chat()).headers[b"x-request-id"].decode()
    item = {"completion_id": completion_id, "value": True}
    assert (await door.call("/v1/feedback", item)).status == 201
    stranger = door.new_key("feedback", tenant="stranger")
    assert (await door.call("/v1/feedback", item, key=stranger)).status == 404
    forged = {"completion_id": "chatcmpl-" + "0" * 40, "value": True}
    assert (await door.call("/v1/feedback", forged)).status == 404
    kept = door.runtime.interactions.get(door.tenant.id, CompletionId(completion_id))
    assert kept.answers == ("Hello",)
