"""The nouns of identity: tenants, their keys, and what a key may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from core.ids import TenantId

Scope = Literal[
    "inference", "feedback:write", "feedback:read", "edge", "feedback", "train", "admin"
]
SCOPES: tuple[Scope, ...] = get_args(Scope)
INCLUDED: Mapping[Scope, tuple[Scope, ...]] = {
    # What it meant before it was divided. Beyond its parts it reaches what other keys gave, and
    # is no one device's.
    "feedback": ("feedback:write", "feedback:read", "edge"),
    "admin": SCOPES,
}
"""What a scope allows beside itself; keys keep the names they were made with."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of this server; owns keys, adapters, interactions and feedback."""

    id: TenantId
    name: str
    created_at_s: float


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: its public part and the SHA-256 of the secret.

    `device`: whose key it is, where it may sync for one device alone; None until that is known.
    """

    public_id: str
    tenant_id: TenantId
    secret_sha256: str
    scopes: frozenset[Scope]
    label: str
    created_at_s: float
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    device: str | None = None
