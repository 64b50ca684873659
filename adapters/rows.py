"""Between the nouns of the registry and their SQL rows: pure conversions, no connection."""

from __future__ import annotations

import sqlalchemy as sa

from adapters.types import Adapter, Learning, Version


def text_of(text: str) -> str:
    """Text as either database takes it: no NUL, no lone surrogate."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def adapter_of(row: sa.Row[tuple[object, ...]]) -> Adapter:
    """The adapter in a row of `adapters`."""
    return Adapter(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        scope=row.scope,
        subject=row.subject,
        created_at_s=row.created_at_s,
        live_version=row.live_version,
        generation=row.generation,
        learning=Learning(**row.learning),
    )


def version_of(row: sa.Row[tuple[object, ...]]) -> Version:
    """The version in a row of `versions`."""
    return Version(
        engine_id=row.engine_id,
        adapter_id=row.adapter_id,
        number=row.number,
        state=row.state,
        digest=row.digest,
        size_bytes=row.size_bytes,
        rank=row.rank,
        target_modules=tuple(row.target_modules),
        source=row.source,
        run_id=row.run_id,
        parent=row.parent,
        created_at_s=row.created_at_s,
        note=row.note,
    )
