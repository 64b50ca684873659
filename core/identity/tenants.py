"""Tenants and their keys in the database."""

from __future__ import annotations

import secrets as random_source
from dataclasses import replace

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.clock import END_OF_TIME_S, now_s
from core.database import Database, announce, found, insert_ignoring_duplicates
from core.errors import Conflict, Invalid, NotFound
from core.identity import tables
from core.identity.keys import new_key, split_key
from core.identity.types import ApiKey, Scope, Tenant
from core.ids import TenantId, new_id, parse_device, parse_name
from core.names import title_of

_MAX_LABEL = 128


class TenantStore:
    """Creates and finds tenants and keys; every change is announced to the servers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str) -> Tenant:
        """A new tenant. Raises Invalid for a bad name, Conflict if it is taken."""
        tenant = Tenant(TenantId(new_id("ten")), parse_name(name, what="tenant name"), now_s())
        try:
            with self._database.write() as connection:
                connection.execute(tables.tenants.insert().values(msgspec.to_builtins(tenant)))
                announce(connection, "tenants", tenant.id)
        except IntegrityError as error:
            raise Conflict(f"A tenant named '{name}' exists already; choose another name.") from (
                error
            )
        return tenant

    def by_name(self, name: str) -> Tenant:
        """The tenant of that name. Raises NotFound, naming the command that makes one."""
        missing = NotFound(f"No tenant '{name}'. Create it with `attune tenants create {name}`.")
        if not name.isascii():
            raise missing  # no tenant can be called that; not every name is text to SQL
        query = sa.select(tables.tenants).where(tables.tenants.c.name == name)
        return self._database.get(query, Tenant, missing)

    def all(self) -> list[Tenant]:
        """Every tenant, oldest first."""
        query = sa.select(tables.tenants).order_by(tables.tenants.c.created_at_s)
        return self._database.find_all(query, Tenant)

    def create_key(
        self,
        tenant_id: TenantId,
        scopes: frozenset[Scope],
        *,
        label: str = "",
        expires_at_s: float | None = None,
        device: str | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its text; the text is never shown again. `device`: whose key it is.

        Raises Invalid for an expiry that is past or that no calendar has, for a label that is no
        title (of a long one the beginning is kept), for what is no device's id, and for a device
        where the scopes are not what binds a key to one.
        """
        if expires_at_s is not None and not now_s() < expires_at_s < END_OF_TIME_S:
            raise Invalid(
                "The expiry must lie in the future, before the year 10000.", param="expires"
            )
        if device is not None and ("edge" not in scopes or scopes & {"feedback", "admin"}):
            raise Invalid(
                "Only a key with the scope 'edge', and without 'feedback' and 'admin', is one "
                "device's.",
                param="device",
            )
        text = new_key()
        public_id, secret_sha256 = split_key(text)
        key = ApiKey(
            public_id=public_id,
            tenant_id=tenant_id,
            secret_sha256=secret_sha256,
            scopes=scopes,
            label=(title_of(label[:_MAX_LABEL], "label") or "")[:_MAX_LABEL],
            created_at_s=now_s(),
            expires_at_s=expires_at_s,
            device=None if device is None else parse_device(device),
        )
        with self._database.write() as connection:
            row = msgspec.to_builtins(key, order="deterministic")  # the scopes
            connection.execute(tables.api_keys.insert().values(row))
            announce(connection, "keys", key.public_id)
        return key, text

    def keys(self, tenant_id: TenantId | None = None) -> list[ApiKey]:
        """Keys of one tenant, or of all, oldest first."""
        query = sa.select(tables.api_keys).order_by(tables.api_keys.c.created_at_s)
        if tenant_id is not None:
            query = query.where(tables.api_keys.c.tenant_id == tenant_id)
        return self._database.find_all(query, ApiKey)

    def revoke_key(self, public_id: str) -> ApiKey:
        """Revoke at once (servers follow within their sync interval). Raises NotFound."""
        # People paste what they have: the whole key is as good as its public part.
        public_id = public_id.removeprefix("sk-at-").split("-")[0]
        this = tables.api_keys.c.public_id == public_id
        with self._database.write() as connection:
            query = sa.select(tables.api_keys).where(this)
            key = found(connection, query, ApiKey) if public_id.isascii() else None
            if key is None:
                raise NotFound(f"No key '{public_id}'. See `attune keys list`.")
            if key.revoked_at_s is None:
                key = replace(key, revoked_at_s=now_s())
                changed = tables.api_keys.update().where(this)
                connection.execute(changed.values(revoked_at_s=key.revoked_at_s))
                announce(connection, "keys", public_id)
            return key

    def bind_device(self, public_id: str, device: str) -> str:
        """The device whose key it is: `device`, if it was nobody's before. NotFound for no key."""
        this = tables.api_keys.c.public_id == public_id
        nobodys = this & tables.api_keys.c.device.is_(None)
        with self._database.write() as connection:
            bound = connection.execute(
                tables.api_keys.update().where(nobodys).values(device=device)
            )
            if bound.rowcount:
                announce(connection, "keys", public_id)
            key = found(connection, sa.select(tables.api_keys).where(this), ApiKey)
        if key is None or key.device is None:
            raise NotFound(f"No key '{public_id}'. See `attune keys list`.")
        return key.device

    def secret(self, name: str) -> str:
        """The server-wide secret `name`, made at first use and shared by every replica."""
        with self._database.write() as connection:
            insert_ignoring_duplicates(
                connection,
                tables.secrets,
                [{"name": name, "value": random_source.token_hex(32)}],
            )
            query = sa.select(tables.secrets.c.value).where(tables.secrets.c.name == name)
            return str(connection.scalar(query))
