"""GET /v1/models: the names the caller may put into `model`."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends
from pydantic import BaseModel

from adapters.routing import AUTO, route
from core.bodies import Resource
from core.identity.types import ApiKey
from server.routes.common import RuntimeOf, key_with, new_router
from server.runtime import Runtime

router = new_router("models")

Key = Annotated[ApiKey, Depends(key_with("inference"))]


class ModelView(Resource):
    """A name to put into `model`, and the version that answers for it now."""

    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["attune"] = "attune"
    parent: str | None
    live_version: int | None
    max_model_len: int


class ModelList(BaseModel):
    """All names, in one page."""

    object: Literal["list"] = "list"
    data: list[ModelView]


@router.get("/v1/models")
async def list_models(key: Key, runtime: RuntimeOf) -> ModelList:
    """The base model, `auto`, and the tenant's adapters, each also by live version."""
    await runtime.sync.look()  # an adapter made a moment ago is listed
    data = [_view(runtime, runtime.served_name), _view(runtime, AUTO)]
    for (tenant_id, name), adapter in runtime.sync.directory.by_name.items():
        if tenant_id == key.tenant_id:
            data.append(_view(runtime, name, adapter.created_at_s, adapter.live_version))
    return ModelList(data=data)


@router.get("/v1/models/{model}")
async def get_model(model: str, key: Key, runtime: RuntimeOf) -> ModelView:
    """One of them, pinned versions included. 404 for what the caller may not use."""
    if model == AUTO:
        return _view(runtime, AUTO)
    chosen = route(
        runtime.sync.directory,
        key.tenant_id,
        model,
        served_name=runtime.served_name,
        draw=1.0,
        base_digest=runtime.base.digest,
    )
    version = chosen.version.number if chosen.version else None
    return _view(runtime, model, chosen.adapter.created_at_s if chosen.adapter else 0, version)


def _view(
    runtime: Runtime, name: str, created_at_s: float = 0, version: int | None = None
) -> ModelView:
    return ModelView(
        id=name,
        created=int(created_at_s),
        parent=runtime.served_name if name != runtime.served_name else None,
        live_version=version,
        max_model_len=runtime.max_model_len,
    )
