"""/v1/exports: models to take away to devices: ask for one, follow it, download its files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from adapters.exports import (
    LAYOUTS,
    PRECISIONS,
    STATES,
    Export,
    ExportFilter,
    ExportRequest,
)
from adapters.routing import AUTO, BASE
from adapters.types import Route
from core.clock import iso
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.identity.keys import require
from core.identity.types import ApiKey
from core.ids import Digest, parse_digest
from server.routes.common import json_object, key_with, limit_of, page, runtime_of, take
from server.runtime import Runtime

router = APIRouter()

Choice = TypeVar("Choice", bound=str)


@router.post("/v1/exports")
async def start_export(request: Request) -> JSONResponse:
    """Export {model, layout?, precision?}: 202, or 200 with the finished one of the same.

    A name means its live version. What is under way already is not begun a second time. 404 for
    what the tenant does not have, 409 for an adapter without a live version.
    """
    key = key_with(request, "train")
    runtime = runtime_of(request)
    body = await json_object(request)
    take(body, ("model", "layout", "precision"))
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Invalid(
            f"Say what to export: an adapter, a version (NAME@N) or '{runtime.served_name}'.",
            param="model",
        )
    layout = _choice(body.get("layout", "merged"), LAYOUTS, "layout")
    precision = _choice(body.get("precision", "int8"), PRECISIONS, "precision")
    chosen = await _route(runtime, key, model)
    if chosen.adapter is not None and chosen.version is None:
        raise Conflict(
            f"'{model[:80]}' has no live version, so there is nothing to export. Name a version "
            f"('{model[:80]}@N') or '{runtime.served_name}'.",
            param="model",
        )
    wanted = ExportRequest(
        tenant_id=key.tenant_id,
        # Whatever it is served as: a device knows the base by this name alone.
        model=chosen.public_name if chosen.adapter else BASE,
        adapter_id=chosen.adapter.id if chosen.adapter else None,
        version=chosen.version.number if chosen.version else None,
        layout=layout,
        precision=precision,
        base=runtime.base.name,
    )

    def open_export() -> tuple[Export, int]:
        done = runtime.exports.ready(wanted)
        if done is not None and _is_whole(runtime, done):
            return done, 200
        return runtime.exports.open(wanted)[0], 202

    export, status = await asyncio.to_thread(open_export)
    return JSONResponse(export_json(export), status_code=status)


@router.get("/v1/exports")
async def list_exports(request: Request) -> dict[str, Any]:
    """Newest first; filters: model, state, layout, precision."""
    key = _reader(request)
    runtime = runtime_of(request)
    query = request.query_params
    state, layout, precision = query.get("state"), query.get("layout"), query.get("precision")
    where = ExportFilter(
        model=query.get("model"),
        state=_choice(state, STATES, "state") if state is not None else None,
        layout=_choice(layout, LAYOUTS, "layout") if layout is not None else None,
        precision=(_choice(precision, PRECISIONS, "precision") if precision is not None else None),
    )
    after, limit = query.get("after"), limit_of(request)

    def read() -> tuple[tuple[Export, ...], bool]:
        return runtime.exports.list(key.tenant_id, where, after=after, limit=limit)

    found, has_more = await asyncio.to_thread(read)
    return page([export_json(export) for export in found], has_more=has_more)


@router.get("/v1/exports/{export_id}")
async def get_export(export_id: str, request: Request) -> dict[str, Any]:
    """One export with its manifests and files. 404 if it is not the caller's."""
    return export_json(await _export(export_id, request, _reader(request)))


@router.api_route("/v1/exports/{export_id}/files/{path:path}", methods=["GET", "HEAD"])
async def get_file(export_id: str, path: str, request: Request) -> Response:
    """One file's bytes; `Range` resumes a download, the ETag is the SHA-256.

    404 for a path that is not among the export's files, 409 until it is ready.
    """
    export = await _export(export_id, request, _reader(request))
    if export.state != "ready":
        raise Conflict(f"Export {export.id} is {export.state}: it has no files to download.")
    found = [file for file in export.files if file.path == path]
    if not found:
        raise NotFound(f"Export {export.id} has no such file.", param="path")
    digest = parse_digest(found[0].sha256)
    # Only the record's digest becomes a path, never the URL.
    local = await asyncio.to_thread(runtime_of(request).artifacts.file, digest)
    return _Blob(local, media_type="application/octet-stream", headers={"etag": f'"{digest}"'})


@router.post("/v1/exports/{export_id}/cancel")
async def cancel_export(export_id: str, request: Request) -> dict[str, Any]:
    """Ask an export to stop. 409 once it is ready or failed."""
    export = await _export(export_id, request, key_with(request, "train"))
    runtime = runtime_of(request)
    return export_json(
        await asyncio.to_thread(runtime.exports.request_cancel, export.tenant_id, export.id)
    )


async def _route(runtime: Runtime, key: ApiKey, model: str) -> Route:
    if model == AUTO:
        raise NotFound(
            f"'{AUTO}' is no model of its own: name an adapter, a version (NAME@N) or "
            f"'{runtime.served_name}'.",
            param="model",
            code="model_not_found",
        )
    # No draw lies in the exploration share: a name means its live version.
    return await runtime.lookups.route(key.tenant_id, model, draw=1.0)


def _is_whole(runtime: Runtime, export: Export) -> bool:
    return all(
        runtime.artifacts.has_file(Digest(file.sha256), file.size_bytes) for file in export.files
    )


class _Blob(FileResponse):
    # Each piece is one trip to a thread: few large ones leave the event loop to the answers.
    chunk_size = 1 << 20


def _choice(value: Any, choices: Sequence[Choice], param: str) -> Choice:
    for choice in choices:
        if value == choice:
            return choice
    raise Invalid(f"{param} is one of {', '.join(choices)}.", param=param)


def _reader(request: Request) -> ApiKey:
    """Whoever trains may look, and so may a device, which carries a key for feedback."""
    key: ApiKey = request.state.attune_key
    try:
        require(key, "train")
    except Forbidden:
        require(key, "feedback")
    return key


async def _export(export_id: str, request: Request, key: ApiKey) -> Export:
    exports = runtime_of(request).exports
    return await asyncio.to_thread(exports.get, key.tenant_id, export_id[:80])


def export_json(export: Export) -> dict[str, Any]:
    """The export as HTTP shows it."""
    adapter = export.model.rpartition("@")[0] if export.adapter_id is not None else None
    return {
        "id": export.id,
        "object": "export",
        "state": export.state,
        "progress": export.progress,
        "message": export.message,
        "model": export.model,
        "adapter": adapter,
        "version": export.version,
        "layout": export.layout,
        "precision": export.precision,
        "created_at": iso(export.created_at_s),
        "finished_at": iso(export.finished_at_s),
        "error": export.error,
        "manifest": export.manifest,
        "adapter_manifest": export.adapter_manifest,
        "files": [
            {"path": file.path, "sha256": file.sha256, "size_bytes": file.size_bytes}
            for file in export.files
        ],
    }
