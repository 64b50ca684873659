"""/v1/adapters: create, push versions, activate, roll back, look."""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from adapters.artifacts.store import ADAPTER_FILES
from adapters.types import Adapter, ArtifactInfo, Learning, Version
from adapters.validate import validate_adapter
from core.clock import iso
from core.errors import Invalid, Unavailable
from server.engine.trial import Absurd
from server.routes.common import json_object, key_with, page, runtime_of, take
from server.runtime import Runtime

router = APIRouter()

_CHUNK_BYTES = 1 << 20


@router.get("/v1/adapters")
async def list_adapters(request: Request) -> dict[str, Any]:
    """The tenant's adapters."""
    key = key_with(request, "inference")
    runtime = runtime_of(request)
    found = await asyncio.to_thread(runtime.registry.adapters, key.tenant_id)
    return page([adapter_json(adapter) for adapter in found], has_more=False)


@router.post("/v1/adapters")
async def create_adapter(request: Request) -> JSONResponse:
    """A new adapter: {name, scope?, subject?, learning?}. It answers by the base at first."""
    key = key_with(request, "train")
    runtime = runtime_of(request)
    body = await json_object(request)
    take(body, ("name", "scope", "subject", "learning"))
    name, subject = body.get("name"), body.get("subject")
    if not isinstance(name, str):
        raise Invalid("Give the adapter a name.", param="name")
    # The same rule as for the user and the domain of a request, or it would never match one.
    if subject is not None and not (
        isinstance(subject, str) and 0 < len(subject) <= 256 and subject.isprintable()
    ):
        raise Invalid("subject must be a string of 1 to 256 printable characters.", param="subject")
    learning = parse_learning(body.get("learning"), Learning())

    def create() -> Adapter:
        return runtime.registry.create(
            key.tenant_id,
            name,
            scope=body.get("scope", "tenant"),
            subject=subject,
            learning=learning,
        )

    adapter = await asyncio.to_thread(create)
    with contextlib.suppress(Unavailable):  # it is made; the server will notice by itself
        await runtime.sync.look()
    return JSONResponse(adapter_json(adapter), status_code=201)


@router.get("/v1/adapters/{name}")
async def get_adapter(name: str, request: Request) -> dict[str, Any]:
    """One adapter with its versions, its history and what the servers say of its loads."""
    adapter = await _adapter(name, request, "inference")
    runtime = runtime_of(request)
    versions = await asyncio.to_thread(runtime.registry.versions, adapter.id)
    history = await asyncio.to_thread(runtime.registry.history, adapter.id)
    reports = await asyncio.to_thread(
        runtime.load_reports.of, [version.engine_id for version in versions]
    )
    failed = {r["engine_id"]: r["detail"] for r in reports if r["state"] == "failed"}
    return {
        **adapter_json(adapter),
        "versions": [
            {**version_json(adapter, version), "load_error": failed.get(version.engine_id)}
            for version in reversed(versions)
        ],
        "history": [
            {
                "version": move.version,
                "previous": move.previous,
                "actor": move.actor,
                "reason": move.reason,
                "at": iso(move.at_s),
            }
            for move in history
        ],
    }


@router.patch("/v1/adapters/{name}")
async def change_adapter(name: str, request: Request) -> dict[str, Any]:
    """Change how it learns: {learning: {…}}; fields left out stay."""
    adapter = await _adapter(name, request, "train")
    body = await json_object(request)
    take(body, ("learning",))
    learning = parse_learning(body.get("learning"), adapter.learning)
    runtime = runtime_of(request)
    return adapter_json(
        await asyncio.to_thread(runtime.registry.set_learning, adapter.id, learning)
    )


@router.post("/v1/adapters/{name}/versions")
async def push_version(name: str, request: Request) -> JSONResponse:
    """Upload a PEFT adapter: multipart with adapter_config.json and adapter_model.safetensors.

    It is validated and tried in the engine before it is a version; `activate` (default true)
    makes it live.
    """
    adapter = await _adapter(name, request, "train")
    runtime = runtime_of(request)
    try:
        form = await request.form(max_files=len(ADAPTER_FILES), max_fields=4)
    except MultiPartException as error:
        raise Invalid(f"The upload cannot be read: {error.message}") from error
    except Exception as error:
        if type(error).__name__ != "HTTPException":
            raise
        raise Invalid(f"The upload cannot be read: {error}") from error
    try:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        activate = str(form.get("activate", "true")).lower() not in ("false", "0", "no")
        note = str(form.get("note", ""))[:500]
        version = await _store(runtime, adapter, uploads, note)
    finally:
        await form.close()
    if activate:
        adapter = await asyncio.to_thread(
            lambda: runtime.registry.activate(
                runtime.registry.by_id(adapter.id),
                version.number,
                actor=f"key {request.state.attune_key.public_id}",
                reason=note or "uploaded",
            )
        )
        version = await asyncio.to_thread(runtime.registry.version, adapter.id, version.number)
        await _take_over(runtime)
    return JSONResponse(version_json(adapter, version), status_code=201)


@router.post("/v1/adapters/{name}/activate")
async def activate_version(name: str, request: Request) -> dict[str, Any]:
    """Make a version live: {version: N | null, reason?, force?, generation?}; null is the base."""
    adapter = await _adapter(name, request, "train")
    body = await json_object(request)
    take(body, ("version", "reason", "force", "generation"))
    number = body.get("version")
    if "version" not in body or isinstance(number, bool) or not isinstance(number, int | None):
        raise Invalid("version must be a number, or null for the base model.", param="version")
    generation = body.get("generation")
    if generation is not None:
        if type(generation) is not int or not 0 <= generation < 2**31:
            raise Invalid("generation must be a whole number.", param="generation")
        adapter = replace(adapter, generation=generation)
    runtime = runtime_of(request)
    after = await asyncio.to_thread(
        lambda: runtime.registry.activate(
            adapter,
            number,
            actor=f"key {request.state.attune_key.public_id}",
            reason=str(body.get("reason", ""))[:500] or "activated by hand",
            allow_rejected=body.get("force") is True,
        )
    )
    await _take_over(runtime)
    return adapter_json(after)


@router.post("/v1/adapters/{name}/rollback")
async def roll_back(name: str, request: Request) -> dict[str, Any]:
    """Back to what was live before."""
    adapter = await _adapter(name, request, "train")
    body = await json_object(request)
    take(body, ("reason",))
    runtime = runtime_of(request)
    after = await asyncio.to_thread(
        lambda: runtime.registry.rollback(
            adapter,
            actor=f"key {request.state.attune_key.public_id}",
            reason=str(body.get("reason", ""))[:500],
        )
    )
    await _take_over(runtime)
    return adapter_json(after)


def parse_learning(given: Any, before: Learning) -> Learning:
    """`before` with the fields given in JSON. Raises Invalid for unknown ones or bad values."""
    if given is None:
        return before
    if not isinstance(given, dict):
        raise Invalid("learning must be an object.", param="learning")
    take(given, [field.name for field in fields(Learning)])
    for name, value in given.items():
        _check_learning(name, value)
    return replace(before, **given)


def _check_learning(name: str, value: Any) -> None:
    param = f"learning.{name}"
    if name == "enabled":
        if not isinstance(value, bool):
            raise Invalid(f"{param} must be true or false.", param=param)
    elif name == "expire_after_s" and value is None:
        return
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e10:
        raise Invalid(f"{param} must be a number, 0 or more.", param=param)
    elif name in ("exploration", "held_out_share") and value > 0.9:
        raise Invalid(f"{param} must be between 0 and 0.9.", param=param)
    elif name in ("min_labels", "min_minority", "min_pairs", "new_items") and (
        not isinstance(value, int) or value < 1
    ):
        raise Invalid(f"{param} must be a whole number, 1 or more.", param=param)


async def _adapter(name: str, request: Request, scope: Any) -> Adapter:
    key = key_with(request, scope)
    return await asyncio.to_thread(runtime_of(request).registry.get, key.tenant_id, name)


async def _take_over(runtime: Runtime) -> None:
    """Have this server follow at once; the change itself is committed whatever happens here."""
    with suppress(Unavailable):
        await runtime.sync.refresh()


async def _store(
    runtime: Runtime, adapter: Adapter, uploads: list[UploadFile], note: str
) -> Version:
    names = [os.path.basename(upload.filename or "") for upload in uploads]
    if sorted(names) != sorted(ADAPTER_FILES) or names != [u.filename for u in uploads]:
        raise Invalid(
            "Upload exactly two files, adapter_config.json and adapter_model.safetensors, under "
            "these plain names (what PEFT's save_pretrained writes; pickled weights are never "
            "accepted).",
            param="file",
        )
    with runtime.artifacts.staging() as staged:
        for name, upload in zip(names, uploads, strict=True):
            await _copy(upload, staged / name)

        def check_and_store() -> ArtifactInfo:
            info = validate_adapter(staged, runtime.base, max_rank=runtime.settings.max_lora_rank)
            runtime.artifacts.put_folder(staged)
            return info

        info = await asyncio.to_thread(check_and_store)
    try:
        await runtime.residency.try_out(adapter.name, info.digest)
    except Absurd as error:
        raise Invalid(error.message, param="file", code=error.code) from error
    return await asyncio.to_thread(
        partial(runtime.registry.add_version, adapter.id, info, source="upload", note=note)
    )


async def _copy(upload: UploadFile, target: Path) -> None:
    with target.open("wb") as file:
        while chunk := await upload.read(_CHUNK_BYTES):
            await asyncio.to_thread(file.write, chunk)


def adapter_json(adapter: Adapter) -> dict[str, Any]:
    """The adapter as HTTP shows it."""
    return {
        "id": adapter.id,
        "object": "adapter",
        "name": adapter.name,
        "scope": adapter.scope,
        "subject": adapter.subject,
        "created_at": iso(adapter.created_at_s),
        "live_version": adapter.live_version,
        "generation": adapter.generation,
        "learning": adapter.learning.to_json(),
    }


def version_json(adapter: Adapter, version: Version) -> dict[str, Any]:
    """The version as HTTP shows it."""
    return {
        "id": f"{adapter.name}@{version.number}",
        "object": "adapter.version",
        "version": version.number,
        "state": version.state,
        "digest": version.digest,
        "size_bytes": version.size_bytes,
        "rank": version.rank,
        "target_modules": list(version.target_modules),
        "source": version.source,
        "run_id": version.run_id,
        "parent": version.parent,
        "created_at": iso(version.created_at_s),
        "note": version.note,
    }
