"""This installation's own stores, as its commands open them on its own machine."""

from __future__ import annotations

from core.database import Database
from core.identity.tenants import TenantStore
from core.settings import Settings


def open_tenants() -> TenantStore:
    """The tenants and keys of this installation, their schema brought up to date."""
    settings = Settings()
    database = Database(settings.resolved_database_url(), wait_s=settings.database_wait_s)
    database.upgrade()
    return TenantStore(database)
