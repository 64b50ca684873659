"""`attune tenants` and `attune keys`: on the installation's own database, on its own machine."""

from __future__ import annotations

from typing import Annotated

import typer

from core.clock import iso, now_s
from core.identity.keys import parse_scopes
from core.identity.types import SCOPES
from deploy.installation import open_tenants
from deploy.terminal import Json, console, show, show_one

tenants = typer.Typer(help="Customers of this server.", no_args_is_help=True)
keys = typer.Typer(help="API keys of tenants.", no_args_is_help=True)


@tenants.command("create")
def create_tenant(name: str, as_json: Json = False) -> None:
    """Create a tenant. It needs a key next: `attune keys create --tenant NAME`."""
    tenant = open_tenants().create(name)
    show_one({"id": tenant.id, "name": tenant.name}, as_json=as_json)


@tenants.command("list")
def list_tenants(as_json: Json = False) -> None:
    """List tenants."""
    rows = [
        {"id": tenant.id, "name": tenant.name, "created_at": iso(tenant.created_at_s)}
        for tenant in open_tenants().all()
    ]
    show(rows, ("name", "id", "created_at"), as_json=as_json)


@keys.command("create")
def create_key(
    tenant: Annotated[str, typer.Option(help="The tenant's name.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(SCOPES)}; repeat for several."),
    ] = None,
    label: Annotated[str, typer.Option(help="A note to recognise it by.")] = "",
    days: Annotated[float | None, typer.Option(help="Expires after this many days.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Of a key for edge: the device; default: the first that syncs with it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key and show it, this once."""
    store = open_tenants()
    scopes = parse_scopes(scope or ["inference", "feedback:write", "feedback:read"])
    expires_at_s = now_s() + days * 86_400 if days is not None else None
    key, text = store.create_key(
        store.by_name(tenant).id, scopes, label=label, expires_at_s=expires_at_s, device=device
    )
    show_one(
        {"key": text, "id": key.public_id, "scopes": sorted(key.scopes), "tenant": tenant},
        as_json=as_json,
    )
    if not as_json:
        console.print("Keep it now: only its hash is stored, it cannot be shown again.")


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: Json = False,
) -> None:
    """List keys (their public parts)."""
    store = open_tenants()
    names = {known.id: known.name for known in store.all()}
    rows = [
        {
            "id": key.public_id,
            "tenant": names[key.tenant_id],
            "scopes": sorted(key.scopes),
            "label": key.label,
            "device": key.device,
            "created_at": iso(key.created_at_s),
            "expires_at": iso(key.expires_at_s),
            "revoked_at": iso(key.revoked_at_s),
        }
        for key in store.keys(store.by_name(tenant).id if tenant else None)
    ]
    columns = ("id", "tenant", "scopes", "label", "created_at", "expires_at", "revoked_at")
    show(rows, columns, as_json=as_json)


@keys.command("revoke")
def revoke_key(key_id: str, as_json: Json = False) -> None:
    """Revoke a key by its public part (running servers follow within a second)."""
    key = open_tenants().revoke_key(key_id)
    show_one({"id": key.public_id, "revoked_at": iso(key.revoked_at_s)}, as_json=as_json)
