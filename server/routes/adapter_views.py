"""Adapters and versions as HTTP shows them, and what may be said of how one learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from adapters.types import AdapterScope, Learning, MethodChoice, VersionState
from core.bodies import Body, Resource, Time, View

_DEFAULT = Learning()

Share = Annotated[float, Field(ge=0, le=0.9)]
Seconds = Annotated[float, Field(ge=0, lt=1e10)]
AtLeastOne = Annotated[int, Field(ge=1, lt=10**10)]


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

    def on(self, before: Learning) -> Learning:
        """`before` with the fields that were sent."""
        return replace(before, **self.model_dump(exclude_unset=True))


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
