"""The door with everything real behind it but the engine: a small app stands for vLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from safetensors.numpy import save_file

from adapters.artifacts.store import ADAPTER_FILES
from adapters.types import Learning
from adapters.validate import BaseModel, validate_adapter
from core.identity.types import Scope
from deploy.kinds import KINDS
from feedback.types import Interaction
from server.door.gateway import Gateway
from server.routes import attach
from server.runtime import Runtime
from support.engine import Engine

Q = "model.layers.0.self_attn.q_proj"
BASE = BaseModel("tiny", {Q: (6, 4)})
OURS = (
    "/v1/models", "/v1/adapters", "/v1/feedback", "/v1/runs", "/v1/responses/", "/health", "/ping",
)  # fmt: skip
DONE = b"data: [DONE]\n\n"
END = object()
"""As a chunk: the event that ends a streamed response."""
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'


@dataclass
class Vllm:
    """Stands for vLLM's app: keeps what it was asked, answers as it is told.

    `chunks`: the bodies of an event stream; an entry may also be a coroutine function to wait
    for. None: one JSON document, or what `document` makes of the body. `before`: waited for before
    the answer begins. `cut`: return after the last chunk as if the client had gone.
    """

    ours: FastAPI
    chunks: Sequence[Any] | None = None
    document: Any = field(default_factory=lambda: chat("Hello"))
    status: int = 200
    cut: bool = False
    before: Callable[[], Awaitable[None]] | None = None
    asked: list[tuple[str, dict[bytes, bytes], Any]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith(OURS):
            await self.ours(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.asked.append((scope["path"], dict(scope["headers"]), json.loads(body or b"null")))
        if self.before is not None:
            await self.before()
        kind = b"application/json" if self.chunks is None else b"text/event-stream; charset=utf-8"
        headers = [(b"content-type", kind), (b"x-request-id", b"vllm's own")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.chunks is None:
            asked = self.asked[-1][2]
            document = self.document(asked) if callable(self.document) else self.document
            await send({"type": "http.response.body", "body": json.dumps(document).encode()})
            return
        for chunk in self.chunks:
            if chunk is END:
                told = {"type": "response.completed", "response": self.document(self.asked[-1][2])}
                body = f"event: response.completed\ndata: {json.dumps(told)}\n\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            elif callable(chunk):
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

    def __init__(self, runtime: Runtime, engine: Engine) -> None:
        self.runtime, self.engine = runtime, engine
        app = FastAPI()
        own = attach(app, KINDS)
        app.state.attune = runtime
        self.vllm = Vllm(app)
        self.gateway = Gateway(self.vllm, lambda: self.runtime, own)
        self.tenant = runtime_tenant(runtime, "acme")
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
        leaves: asyncio.Event | None = None,
        cut: bool = False,
    ) -> Reply:
        """What the client gets, who goes away once it `leaves`, or before it has said all."""
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
        whole = bool(parts)

        async def receive() -> dict[str, Any]:
            # A client that has said all waits for its answer.
            if not parts and whole and (leaves or not cut):
                await (leaves or asyncio.Event()).wait()
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": cut or bool(parts)}

        async def send(message: Any) -> None:
            got.messages.append(dict(message))

        await self.gateway(scope, receive, send)
        return got

    async def chat(self, model: str = "base", **fields: Any) -> Reply:
        messages = [{"role": "user", "content": "Hi"}]
        return await self.call(
            "/v1/chat/completions", {"model": model, "messages": messages, **fields}
        )

    async def upload(self, name: str, folder: Path, **options: Any) -> Reply:
        """Push a tiny adapter over HTTP."""
        write_adapter(folder)
        files = [(file, (folder / file).read_bytes()) for file in ADAPTER_FILES]
        return await self.send_files(name, files, **options)

    async def send_files(
        self, name: str, files: Sequence[tuple[str, bytes]], **options: Any
    ) -> Reply:
        """Push these files over HTTP."""
        parts = [
            b'--x\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
            % (file.encode(), content)
            for file, content in files
        ]
        return await self.call(
            f"/v1/adapters/{name}/versions",
            b"".join(parts) + b"--x--\r\n",
            headers=[(b"content-type", b"multipart/form-data; boundary=x")],
            **options,
        )

    def recorded(self) -> list[Interaction]:
        """What is in the database, oldest first."""
        return list(reversed(self.runtime.interactions.list(self.tenant.id, limit=200).items))

    def push(self, name: str, folder: Path, fill: float = 1.0) -> int:
        """Register a new version of `name` (made if need be) and make it live."""
        runtime = self.runtime
        write_adapter(folder, fill)
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


def write_adapter(folder: Path, fill: float = 1.0) -> None:
    """A tiny adapter of `BASE` that changes nothing."""
    folder.mkdir(exist_ok=True)
    stem = f"base_model.model.{Q}"
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        f"{stem}.lora_A.weight": np.full((2, 4), fill, np.float32),
        f"{stem}.lora_B.weight": np.zeros((6, 2), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")


def runtime_tenant(runtime: Runtime, name: str) -> Any:
    known = {tenant.name: tenant for tenant in runtime.tenants.all()}
    return known.get(name) or runtime.tenants.create(name)


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0)
