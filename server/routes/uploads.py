"""POST /v1/adapters/{name}/versions: a PEFT adapter, taken file by file to disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from adapters.artifacts.digest import ADAPTER_FILES
from adapters.types import ArtifactInfo, Version
from adapters.validate import validate_adapter
from core.errors import Invalid
from server.engine.trial import Absurd
from server.routes.adapters import Trainable, Trainer, VersionView
from server.routes.common import RuntimeOf, new_router, take_over
from server.runtime import Runtime

router = new_router("adapters")

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": " and ".join(ADAPTER_FILES),
        },
        "activate": {"type": "string", "default": "true"},
        "note": {"type": "string"},
    },
}


@router.post(
    "/v1/adapters/{name}/versions",
    status_code=201,
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def push_version(
    adapter: Trainable, key: Trainer, runtime: RuntimeOf, request: Request
) -> VersionView:
    """Upload a PEFT adapter: multipart with adapter_config.json and adapter_model.safetensors.

    It is validated and tried in the engine before it is a version; `activate` (default true)
    makes it live.
    """
    # Read by hand: only now is it known that the adapter is the caller's.
    try:
        form = await request.form(max_files=len(ADAPTER_FILES), max_fields=4)
    except (MultiPartException, HTTPException) as error:
        said = error.message if isinstance(error, MultiPartException) else error.detail
        raise Invalid(f"The upload cannot be read: {said}") from error
    activate = str(form.get("activate", "true")).lower() not in ("false", "0", "no")
    note = str(form.get("note", ""))[:500]

    def push(info: ArtifactInfo) -> Version:
        version = runtime.registry.add_version(adapter.id, info, source="upload", note=note)
        if activate:
            runtime.registry.activate(
                runtime.registry.by_id(adapter.id),
                version.number,
                actor=f"key {key.public_id}",
                reason=note or "uploaded",
            )
        return runtime.registry.version(adapter.id, version.number)

    try:
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        info = await asyncio.to_thread(_stored, runtime, uploads)
    finally:
        await form.close()
    try:
        await runtime.residency.try_out(adapter.name, info.digest)
    except Absurd as error:
        raise Invalid(error.message, param="file", code=error.code) from error
    version = await asyncio.to_thread(push, info)
    if activate:
        await take_over(runtime)
    return VersionView.of(version, id=f"{adapter.name}@{version.number}")


def _stored(runtime: Runtime, uploads: list[UploadFile]) -> ArtifactInfo:
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
            with (staged / name).open("wb") as file:
                shutil.copyfileobj(upload.file, file)
        info = validate_adapter(staged, runtime.base, max_rank=runtime.settings.max_lora_rank)
        runtime.artifacts.put_folder(staged)
        return info
