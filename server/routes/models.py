"""GET /v1/models: the names the caller may put into `model`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from adapters.routing import AUTO, route
from core.errors import NotFound
from server.routes.by_hand import key_with, runtime_of

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The base model, `auto`, and the tenant's adapters, each also by live version."""
    key = key_with(request, "inference")
    runtime = runtime_of(request)
    await runtime.sync.look()  # an adapter made a moment ago is listed
    directory = runtime.sync.directory
    data = [_card(runtime.served_name, 0, None, None, runtime.max_model_len)]
    data.append(_card(AUTO, 0, runtime.served_name, None, runtime.max_model_len))
    for (tenant_id, name), adapter in directory.by_name.items():
        if tenant_id == key.tenant_id:
            data.append(
                _card(
                    name,
                    int(adapter.created_at_s),
                    runtime.served_name,
                    adapter.live_version,
                    runtime.max_model_len,
                )
            )
    return {"object": "list", "data": data}


@router.get("/v1/models/{model}")
async def get_model(model: str, request: Request) -> dict[str, Any]:
    """One of them, pinned versions included. 404 for what the caller may not use."""
    key = key_with(request, "inference")
    runtime = runtime_of(request)
    if model == AUTO:
        return _card(AUTO, 0, runtime.served_name, None, runtime.max_model_len)
    try:
        chosen = route(
            runtime.sync.directory,
            key.tenant_id,
            model,
            served_name=runtime.served_name,
            draw=1.0,
        )
    except NotFound as error:
        raise NotFound(error.message, param="model", code="model_not_found") from error
    version = chosen.version.number if chosen.version else None
    created = int(chosen.adapter.created_at_s) if chosen.adapter else 0
    return _card(model, created, runtime.served_name, version, runtime.max_model_len)


def _card(
    name: str, created: int, parent: str | None, version: int | None, max_model_len: int
) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "attune",
        "parent": parent if parent != name else None,
        "live_version": version,
        "max_model_len": max_model_len,
    }
