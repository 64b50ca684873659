"""/v1/adapters: create, activate, roll back, look, and what is sent and shown for it. Pushing
versions is in `uploads`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import Depends
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from adapters.recipe import Recipe
from adapters.types import Adapter, AdapterScope, Learning, MethodChoice, VersionState
from core.bodies import Body, Resource, Time, View, says
from core.errors import Unavailable
from core.identity.types import ApiKey
from core.ids import NAME_PATTERN
from core.names import Title
from server.routes.common import PageOf, RuntimeOf, key_with, new_router, page_of, take_over
from server.routes.recipe import RecipeBody, require_possible
from server.runtime import Runtime

router = new_router("adapters")

Reader = Annotated[ApiKey, Depends(key_with("inference"))]
Trainer = Annotated[ApiKey, Depends(key_with("train"))]
Share = Annotated[float, Field(ge=0, le=0.9)]
Seconds = Annotated[float, Field(ge=0, lt=1e10)]
AtLeastOne = Annotated[int, Field(ge=1, lt=10**10)]
Reason = Annotated[str, Field(max_length=500)]

_DEFAULT = Learning()


class LearningBody(Body):
    """How an adapter learns; of an adapter that exists, fields left out stay as they are."""

    enabled: bool = _DEFAULT.enabled
    min_labels: AtLeastOne = _DEFAULT.min_labels
    min_minority: AtLeastOne = _DEFAULT.min_minority
    min_pairs: AtLeastOne = _DEFAULT.min_pairs
    new_items: AtLeastOne = _DEFAULT.new_items
    max_age_s: Seconds = _DEFAULT.max_age_s
    exploration: Share = _DEFAULT.exploration
    held_out_share: Share = _DEFAULT.held_out_share
    expire_after_s: Seconds | None = _DEFAULT.expire_after_s
    method: MethodChoice = _DEFAULT.method
    recipe: RecipeBody | None = Field(
        None, description="Figures of its trainings; null leaves them all to the trainer."
    )

    def on(self, before: Learning) -> Learning:
        """`before` with the fields that were sent, of the recipe's too."""
        sent = self.model_dump(exclude_unset=True)
        if "recipe" in sent:
            sent["recipe"] = self.recipe.on(before.recipe) if self.recipe else Recipe()
        return replace(before, **sent)


class CreateBody(Body):
    """A new adapter; one of scope `domain` or `user` names which in `subject`."""

    name: Annotated[str, Field(json_schema_extra={"pattern": f"^{NAME_PATTERN}$"})]
    scope: AdapterScope = "tenant"
    # The same rule as for the user and the domain of a request, or it would never match one.
    subject: Title | None = None
    learning: LearningBody | None = None


class ChangeBody(Body):
    """How it learns from now on."""

    learning: LearningBody | None = None


class ActivateBody(Body):
    """Which version goes live; `generation`: only if nothing changed since it was this."""

    version: Annotated[int | None, says("version must be a number, or null for the base model.")]
    reason: Reason = ""
    force: bool = False
    generation: Annotated[
        Annotated[int, Field(ge=0, lt=2**31)] | None, says("generation must be a whole number.")
    ] = None


class RollbackBody(Body):
    """Why."""

    reason: Reason = ""


class AdapterView(Resource):
    """A named line of versions; with `live_version` null the base model answers for it."""

    object: Literal["adapter"] = "adapter"
    name: str
    scope: AdapterScope
    subject: str | None
    created_at: Time = Field(validation_alias="created_at_s")
    live_version: int | None
    generation: int
    learning: Learning


class VersionView(Resource):
    """One immutable set of weights."""

    object: Literal["adapter.version"] = "adapter.version"
    version: int = Field(validation_alias="number")
    state: VersionState
    digest: str
    size_bytes: int
    rank: int
    target_modules: tuple[str, ...]
    source: Literal["upload", "run"]
    run_id: str | None
    parent: int | None
    created_at: Time = Field(validation_alias="created_at_s")
    note: str


class LoadedVersion(VersionView):
    """A version, and why a server could not load it, if one could not."""

    load_error: str | None


class Move(View):
    """One move of the live pointer; `version` null is back to the base model."""

    version: int | None
    previous: int | None
    actor: str
    reason: str
    at: Time = Field(validation_alias="at_s")


class AdapterDetail(AdapterView):
    """An adapter with its versions and its history, both newest first."""

    versions: list[LoadedVersion]
    history: list[Move]


def _readable(name: str, key: Reader, runtime: RuntimeOf) -> Adapter:
    return runtime.registry.get(key.tenant_id, name)


def _trainable(name: str, key: Trainer, runtime: RuntimeOf) -> Adapter:
    return runtime.registry.get(key.tenant_id, name)


def _changed(before: Learning, sent: LearningBody | None, runtime: Runtime) -> Learning:
    if sent is None:
        return before
    learning = sent.on(before)
    if sent.recipe is not None:
        require_possible(learning.recipe, runtime.settings, runtime.base.shapes)
    return learning


Readable = Annotated[Adapter, Depends(_readable)]
Trainable = Annotated[Adapter, Depends(_trainable)]


@router.get("/v1/adapters")
def list_adapters(key: Reader, runtime: RuntimeOf) -> PageOf[AdapterView]:
    """The tenant's adapters."""
    return page_of(
        [AdapterView.of(adapter) for adapter in runtime.registry.adapters(key.tenant_id)]
    )


@router.post("/v1/adapters", status_code=201)
async def create_adapter(body: CreateBody, key: Trainer, runtime: RuntimeOf) -> AdapterView:
    """A new adapter. It answers by the base at first."""
    learning = _changed(Learning(), body.learning, runtime)
    adapter = await run_in_threadpool(
        runtime.registry.create,
        key.tenant_id,
        body.name,
        scope=body.scope,
        subject=body.subject,
        learning=learning,
    )
    with suppress(Unavailable):  # it is made; the server will notice by itself
        await runtime.sync.look()
    return AdapterView.of(adapter)


@router.get("/v1/adapters/{name}")
def get_adapter(adapter: Readable, runtime: RuntimeOf) -> AdapterDetail:
    """One adapter with its versions, its history and what the servers say of its loads."""
    versions = runtime.registry.versions(adapter.id)
    reports = runtime.load_reports.of([version.engine_id for version in versions])
    failed = {r["engine_id"]: r["detail"] for r in reports if r["state"] == "failed"}
    return AdapterDetail.of(
        adapter,
        versions=[
            LoadedVersion.of(
                version,
                id=f"{adapter.name}@{version.number}",
                load_error=failed.get(version.engine_id),
            )
            for version in reversed(versions)
        ],
        history=[Move.of(move) for move in runtime.registry.history(adapter.id)],
    )


@router.patch("/v1/adapters/{name}")
def change_adapter(adapter: Trainable, body: ChangeBody, runtime: RuntimeOf) -> AdapterView:
    """Change how it learns."""
    learning = _changed(adapter.learning, body.learning, runtime)
    return AdapterView.of(runtime.registry.set_learning(adapter.id, learning))


@router.post("/v1/adapters/{name}/activate")
async def activate_version(
    adapter: Trainable, body: ActivateBody, key: Trainer, runtime: RuntimeOf
) -> AdapterView:
    """Make a version live, or the base model. 409 if somebody else moved it meanwhile."""
    if body.generation is not None:
        adapter = replace(adapter, generation=body.generation)
    after = await run_in_threadpool(
        runtime.registry.activate,
        adapter,
        body.version,
        actor=f"key {key.public_id}",
        reason=body.reason or "activated by hand",
        allow_rejected=body.force,
    )
    await take_over(runtime)
    return AdapterView.of(after)


@router.post("/v1/adapters/{name}/rollback")
async def roll_back(
    adapter: Trainable, body: RollbackBody, key: Trainer, runtime: RuntimeOf
) -> AdapterView:
    """Back to what was live before."""
    after = await run_in_threadpool(
        runtime.registry.rollback,
        adapter,
        actor=f"key {key.public_id}",
        reason=body.reason,
    )
    await take_over(runtime)
    return AdapterView.of(after)
