"""POST /v1/adapters/{name}/versions: a PEFT adapter, taken file by file to disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from adapters.artifacts.digest import ADAPTER_FILES
from adapters.intake import CONVERT
from adapters.types import Adapter, ArtifactInfo, Version
from core.errors import Invalid
from core.files import disk_trouble
from core.identity.types import ApiKey
from server.engine.trial import Absurd
from server.routes.adapters import Trainable, Trainer, VersionView
from server.routes.common import Route, RuntimeOf, new_router, take_over
from server.runtime import Runtime
from server.turns import Turns

_MOST_FILES = 64
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_AGAIN = "Then upload again."
_GONE = "The client went away before the upload was taken."
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

T = TypeVar("T")


class _Upload(Route):
    """An upload takes as long as the client's line: it keeps no other call waiting."""

    def turns(self, runtime: Runtime) -> Turns:
        """A line of their own."""
        return runtime.uploads


router = new_router("adapters", _Upload)


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
    form = await _form(request)
    activate = str(form.get("activate", "true")).lower() not in ("false", "0", "no")
    note = str(form.get("note", ""))[:500]
    with disk_trouble("the artifact store", _AGAIN), runtime.artifacts.staging() as staged:
        given, plain = staged / "given", staged / "plain"
        given.mkdir()
        plain.mkdir()
        try:
            await run_in_threadpool(_write, _files(form), given)
        finally:
            await form.close()
        info = await _while_connected(request, runtime.intake.check(key.tenant_id, given, plain))
        await _try_out(runtime, adapter, info, plain)
        await run_in_threadpool(runtime.artifacts.put_folder, plain)
    version = await run_in_threadpool(_add, runtime, adapter, key, info, note, activate)
    if activate:
        await take_over(runtime)
    return VersionView.of(version, id=f"{adapter.name}@{version.number}")


async def _form(request: Request) -> FormData:
    # A form of the other kind would be gathered in memory, piece by piece.
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Invalid("Upload the files of the adapter as multipart/form-data.", param="file")
    try:
        with disk_trouble("the server's temporary files", _AGAIN):
            return await request.form(max_files=_MOST_FILES, max_fields=4)
    except (MultiPartException, HTTPException) as error:
        said = error.message if isinstance(error, MultiPartException) else error.detail
        raise Invalid(f"The upload cannot be read: {said}") from error
    except ClientDisconnect as error:
        raise Invalid(_GONE) from error


def _files(form: FormData) -> dict[str, UploadFile]:
    """The two files of an adapter by name; what else lies in its folder is passed over."""
    uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    names = [upload.filename or "" for upload in uploads]
    for name in names:
        if name.endswith(_PICKLES) and name == os.path.basename(name):
            raise Invalid(f"Upload the adapter without '{name[:80]}'. {CONVERT}", param="file")
    plain = all(name and name == os.path.basename(name) for name in names)
    found = {name: up for name, up in zip(names, uploads, strict=True) if name in ADAPTER_FILES}
    if not plain or len(set(names)) != len(names) or set(found) != set(ADAPTER_FILES):
        raise Invalid(
            "Upload adapter_config.json and adapter_model.safetensors, once each and under these "
            "plain names (what PEFT's save_pretrained writes).",
            param="file",
        )
    return found


def _write(files: dict[str, UploadFile], folder: Path) -> None:
    for name, upload in files.items():
        with (folder / name).open("wb") as file:
            shutil.copyfileobj(upload.file, file)


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Invalid(_GONE)
        return task.result()
    finally:
        await _cancelled((task, gone))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancelled(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _try_out(runtime: Runtime, adapter: Adapter, info: ArtifactInfo, folder: Path) -> None:
    # One at a time: a trial takes a slot and a place, which who is being answered needs more.
    async with runtime.one_trial:
        try:
            await runtime.residency.try_out(adapter.name, info.digest, folder)
        except Absurd as error:
            raise Invalid(error.message, param="file", code=error.code) from error


def _add(
    runtime: Runtime, adapter: Adapter, key: ApiKey, info: ArtifactInfo, note: str, activate: bool
) -> Version:
    version = runtime.registry.add_version(adapter.id, info, source="upload", note=note)
    if activate:
        runtime.registry.activate(
            runtime.registry.by_id(adapter.id),
            version.number,
            actor=f"key {key.public_id}",
            reason=note or "uploaded",
        )
    return runtime.registry.version(adapter.id, version.number)
