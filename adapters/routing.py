"""Which weights answer a request. Pure: a directory and a request in, a route out."""

from __future__ import annotations

import random
import re

from adapters.directory import Directory
from adapters.types import Adapter, Route, Version
from core.errors import Conflict, NotFound
from core.ids import Digest, TenantId

_PINNED = re.compile(r"(?P<name>[^@]{1,64})@(?P<number>[1-9][0-9]{0,8})")

BASE = "base"
AUTO = "auto"


def route(
    directory: Directory,
    tenant_id: TenantId,
    model: str,
    *,
    served_name: str = BASE,
    end_user: str | None = None,
    domain: str | None = None,
    draw: float | None = None,
    base_digest: Digest | None = None,
) -> Route:
    """Decide adapter and version for one request.

    `draw` in [0, 1) decides whether the answer belongs to the adapter's exploration share;
    None draws at random. A pinned version (`support@7`) is never explored. `base_digest`: the
    base model that answers here. Raises NotFound for a name or version the tenant does not have,
    in words that do not tell whether another does; Conflict for a version that is quarantined or
    was made for another base.
    """
    if model in (BASE, served_name):
        return Route(None, None, False, served_name)
    if model == AUTO:
        adapter = _automatic(directory, tenant_id, end_user, domain)
        if adapter is None:
            return Route(None, None, False, served_name)
        return _live(directory, adapter, served_name, draw, base_digest)
    pinned = _PINNED.fullmatch(model)
    name = pinned.group("name") if pinned else model
    adapter = directory.by_name.get((tenant_id, name))
    if adapter is None:
        raise NotFound(
            f"The model `{model[:200]}` does not exist. GET /v1/models lists what this key may "
            f"use ('{served_name}' is the base model, 'auto' picks an adapter).",
            param="model",
            code="model_not_found",
        )
    if pinned is None:
        return _live(directory, adapter, served_name, draw, base_digest)
    version = directory.versions.get(adapter.id, {}).get(int(pinned.group("number")))
    if version is None:
        numbers = sorted(directory.versions.get(adapter.id, {}))
        known = f"it has versions {numbers[0]} to {numbers[-1]}" if numbers else "it has none yet"
        raise NotFound(
            f"The model `{model}` does not exist: adapter '{name}' has no such version ({known}).",
            param="model",
            code="model_not_found",
        )
    if version.state == "quarantined":
        raise Conflict(
            f"The model `{model}` is quarantined: its weights are absurd. The history of adapter "
            f"'{name}' says what happened.",
            param="model",
            code="quarantined",
        )
    return _to(adapter, version, base_digest)


def _automatic(
    directory: Directory, tenant_id: TenantId, end_user: str | None, domain: str | None
) -> Adapter | None:
    for scope, subject in (("user", end_user), ("domain", domain)):
        if subject is not None:
            adapter = directory.by_subject.get((tenant_id, scope, subject))
            if adapter is not None:
                return adapter
    return directory.by_subject.get((tenant_id, "tenant", None))


def _live(
    directory: Directory,
    adapter: Adapter,
    served_name: str,
    draw: float | None,
    base_digest: Digest | None,
) -> Route:
    if adapter.live_version is None:
        return Route(adapter, None, False, served_name)
    versions = directory.versions[adapter.id]
    if (random.random() if draw is None else draw) < adapter.learning.exploration:
        # The base model shows every behaviour again, also those the live version unlearnt.
        return Route(adapter, None, True, served_name)
    return _to(adapter, versions[adapter.live_version], base_digest)


def _to(adapter: Adapter, version: Version, base_digest: Digest | None) -> Route:
    if not version.is_for(base_digest):
        raise Conflict(
            f"The model `{adapter.name}@{version.number}` was made for another base model than "
            "the one that answers here; upload or train a version for this base.",
            param="model",
            code="other_base",
        )
    return Route(adapter, version, False, f"{adapter.name}@{version.number}")


def engine_name(tenant_id: TenantId, adapter: Adapter, version: Version) -> str:
    """The private name vLLM knows this version by; unique for ever, never shown to a client."""
    return f"{tenant_id}/{adapter.name}@{version.number}"
