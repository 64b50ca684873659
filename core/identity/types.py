"""The nouns of identity: tenants, their keys, and what a key may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.ids import TenantId

Scope = Literal["inference", "feedback", "train", "admin"]
SCOPES: tuple[Scope, ...] = ("inference", "feedback", "train", "admin")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of this server; owns keys, adapters, interactions and feedback."""

    id: TenantId
    name: str
    created_at_s: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: its public part and the SHA-256 of the secret."""

    public_id: str
    tenant_id: TenantId
    secret_sha256: str
    scopes: frozenset[Scope]
    label: str
    created_at_s: float
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
