"""Base models that were exported for devices, and shared by the exports of all tenants.

Knows nothing of how one is built; its manifest is opaque JSON here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from adapters.tables import exported_bases as table
from core.clock import now_s
from core.database import Database, insert_or_replace


class ExportedBases:
    """Their manifests, by digest and precision; their files are blobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, base_digest: str, precision: str) -> Mapping[str, Any] | None:
        """The manifest of the exported base model, if it was exported."""
        query = sa.select(table.c.manifest).where(
            table.c.base_digest == base_digest, table.c.precision == precision
        )
        manifest: Mapping[str, Any] | None = self._database.scalar(query)
        return manifest

    def record(self, base_digest: str, precision: str, manifest: Mapping[str, Any]) -> None:
        """Note an exported base model; what was noted before is replaced."""
        row = {
            "base_digest": base_digest,
            "precision": precision,
            "manifest": dict(manifest),
            "created_at_s": now_s(),
        }
        with self._database.write() as connection:
            insert_or_replace(connection, table, row)
