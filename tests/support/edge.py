"""A small export on disk, a server that hands exports out and takes syncs, and cuts connections."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from deploy.edge.manifest import (
    ADAPTER_FILE,
    Kind,
    Layout,
    Manifest,
    ModelEntry,
    adapter_folder,
    digest_of_files,
    entries_of,
    write_manifest,
)
from deploy.edge.types import Answered, Note

KEY = "sk-at-right"


def answered(number: int, adapter: str | None = None) -> Answered:
    return Answered(
        id=f"edge-{number:032x}",
        created_at_s=1_000.0 + number,
        model_requested=adapter or "base",
        model_answered=f"{adapter}@1" if adapter else "base",
        adapter=adapter,
        version=1 if adapter else None,
        export_digest="a" * 64,
        messages=({"role": "user", "content": f"question {number} é"},),
        answer=f"answer {number}",
        finish_reason="stop",
    )


def note(number: int, value: bool = True, created_at_s: float = 5.0) -> Note:
    return Note(f"fb_{number}", f"edge-{number:032x}", created_at_s, "thumb", value)


def model_entry(name: str) -> ModelEntry:
    adapter, _, number = name.partition("@")
    versioned = bool(number)
    return ModelEntry(
        name=name,
        adapter=adapter if versioned else None,
        version=int(number) if versioned else None,
        digest="d" * 64 if versioned else None,
        base="town",
        base_digest="b" * 64,
        architecture="LlamaForCausalLM",
        context_length=1024,
    )


def make_model(
    folder: Path, name: str = "base", *, layout: Layout = "base+adapters", content: str = "one"
) -> Manifest:
    """A finished export without adapters; its files are text made of `content`."""
    (folder / "model").mkdir(parents=True)
    for file in ("model.onnx", "model.onnx.data", "tokenizer.json"):
        (folder / "model" / file).write_bytes(f"{file} {content}\n".encode() * 5_000)
    files = entries_of(folder, below="model")
    kind: Kind = "merged" if layout == "merged" else "base"
    manifest = Manifest(
        kind=kind,
        precision="fp32",
        model=model_entry(name),
        files=files,
        tools={},
        created_at="2026-11-21T00:00:00+00:00",
        verification=None,
        layout=layout,
        model_digest=digest_of_files(files),
    )
    write_manifest(folder, manifest)
    return manifest


def make_adapter(root: Path, name: str, base: Manifest, content: str = "weights") -> Manifest:
    """A finished adapter version under the export at `root`."""
    folder = adapter_folder(root, name)
    folder.mkdir(parents=True)
    (folder / ADAPTER_FILE).write_bytes(f"{name} {content}\n".encode() * 20_000)
    manifest = Manifest(
        kind="adapter",
        precision="fp32",
        model=model_entry(name),
        files=entries_of(folder),
        tools={},
        created_at="2026-11-21T00:00:00+00:00",
        verification=None,
        base_model_digest=base.model_digest,
        rank=16,
    )
    write_manifest(folder, manifest)
    return manifest


@dataclass
class Cuts:
    """Breaks `left` of the requests at random, at a random moment of each."""

    left: int
    draw: random.Random = field(default_factory=lambda: random.Random(15))
    share: float = 0.65

    def now(self) -> str | None:
        """When to break the request at hand: before it counts, after that, midway, or not."""
        if self.left <= 0 or self.draw.random() > self.share:
            return None
        self.left -= 1
        return self.draw.choice(("before", "after", "midway"))


@dataclass
class FakeServer:
    """The server's side of the agreement, in memory; `url` is set while it runs."""

    url: str = ""
    cuts: Cuts = field(default_factory=lambda: Cuts(0))
    key_scopes: tuple[str, ...] = ("edge",)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    unknown_adapters: set[str] = field(default_factory=set)
    max_bytes: int = 4_000_000
    stored: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    times_stored: Counter[str] = field(default_factory=Counter)
    calls: list[str] = field(default_factory=list)
    sent_bytes: Counter[str] = field(default_factory=Counter)
    exports: list[dict[str, Any]] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    corrupt: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def offer(self, export_id: str, folder: Path, adapter: str | None = None) -> None:
        """Put a finished export on the list, of the whole folder or of one adapter in it."""
        manifest = json.loads((folder / "manifest.json").read_text())
        files = [{"path": path, **entry} for path, entry in manifest["files"].items()]
        adapter_manifest = None
        if adapter is not None:
            text = (adapter_folder(folder, adapter) / "manifest.json").read_text()
            adapter_manifest = json.loads(text)
            files += [
                {"path": f"adapters/{adapter}/{path}", **entry}
                for path, entry in adapter_manifest["files"].items()
            ]
        model = (adapter_manifest or manifest)["model"]
        self.folders[export_id] = folder
        export = {
            "id": export_id,
            "object": "export",
            "state": "ready",
            "model": model["name"],
            "adapter": model["adapter"],
            "version": model["version"],
            "layout": manifest["layout"],
            "precision": manifest["precision"],
            "created_at": f"2026-11-21T00:00:{len(self.exports):02}Z",
            "manifest": manifest,
            "adapter_manifest": adapter_manifest,
            "files": files,
        }
        self.exports.insert(0, export)

    def sync(self, body: dict[str, Any]) -> dict[str, Any]:
        """Store what is new; the id of an item is the same each time it comes."""
        results = []
        for item in body["items"]:
            key = (body["device"], item["type"], item["id"])
            result = {"seq": item["seq"], "id": f"chatcmpl-{item['id']}", "status": "stored"}
            if item.get("adapter") in self.unknown_adapters:
                error = {"message": f"No adapter '{item['adapter']}'.", "code": "not_found"}
                result = {"seq": item["seq"], "status": "rejected", "error": error}
            elif self.stored.get(key) == item:
                result["status"] = "already_stored"
            else:
                self.stored[key] = item
                self.times_stored[item["id"]] += 1
            results.append(result)
        return {"object": "edge.sync", "results": results}

    @contextmanager
    def running(self) -> Iterator[FakeServer]:
        """Serve on a free port of loopback."""
        fake = self

        class Handler(_Handler):
            server_side = fake

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield self
        finally:
            http.shutdown()
            thread.join()
            http.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_side: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._take(b"")

    def do_POST(self) -> None:
        self._take(self.rfile.read(int(self.headers["content-length"])))

    def log_message(self, *args: object) -> None:
        pass

    def _take(self, body: bytes) -> None:
        fake = self.server_side
        url = urlsplit(self.path)
        with fake.lock:
            fake.calls.append(self.path)
            cut = fake.cuts.now()
            if cut == "before":
                self._drop()
                return
            if self.headers.get("authorization") != f"Bearer {KEY}":
                error = {"message": "No such key.", "code": "invalid_api_key"}
                self._json(401, {"error": error}, {}, None)
            elif "edge" not in fake.key_scopes:
                error = {"message": "The key lacks the scope edge.", "code": "forbidden"}
                self._json(403, {"error": error}, {}, None)
            elif fake.refusals:
                status, headers = fake.refusals.pop(0)
                self._json(status, {"error": {"message": "busy"}}, headers, None)
            elif url.path == "/v1/edge/sync" and len(body) > fake.max_bytes:
                self._json(413, {"error": {"message": "Send fewer items."}}, {}, None)
            elif url.path == "/v1/edge/sync":
                self._json(200, fake.sync(json.loads(body)), {}, cut)
            elif url.path == "/v1/exports":
                self._exports(parse_qs(url.query), cut)
            else:
                self._file(unquote(url.path).removeprefix("/v1/exports/"), cut)

    def _exports(self, query: dict[str, list[str]], cut: str | None) -> None:
        found = [
            export
            for export in self.server_side.exports
            if all(export[name] == query[name][0] for name in query if name in export)
        ]
        self._json(200, {"object": "list", "data": found, "has_more": False}, {}, cut)

    def _file(self, path: str, cut: str | None) -> None:
        fake = self.server_side
        export_id, _, name = path.partition("/files/")
        data = (fake.folders[export_id] / name).read_bytes()
        if name in fake.corrupt:
            data = bytes(reversed(data))
        start = 0
        if self.headers.get("range"):
            start = int(self.headers["range"].removeprefix("bytes=").rstrip("-"))
        part = data[start:]
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(part)))
        self.end_headers()
        if cut is not None:
            part = part[: len(part) // 2]
        fake.sent_bytes[name] += len(part)
        self.wfile.write(part)
        if cut is not None:
            self._drop()

    def _json(
        self, status: int, body: dict[str, Any], headers: dict[str, str], cut: str | None
    ) -> None:
        raw = json.dumps(body).encode()
        if cut == "after":
            self._drop()
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) // 2] if cut == "midway" else raw)
        if cut == "midway":
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
