"""Finished exports in the ledger, as if the trainer had made them: nothing of them is on disk."""

from __future__ import annotations

from core.database import Database
from core.ids import TenantId
from core.work.ledger import Ledger
from deploy.edge.manifest import ADAPTER_FILE
from deploy.export.request import EXPORT, ExportFacts


def record_export(
    database: Database,
    tenant_id: TenantId,
    model: str,
    digest: str,
    *,
    base: str | None = None,
    state: str = "ready",
) -> str:
    """Record `model` as exported under `digest`, merged or as a part of `base`; its id."""
    version = int(model.partition("@")[2] or 0) or None
    layout = "merged" if base is None else "base+adapters"
    facts = ExportFacts(model, version, layout, "fp32")  # type: ignore[arg-type]
    exports = Ledger(database, EXPORT)
    work, _ = exports.open(tenant_id, f"{model} {digest}"[:60], facts)
    whole = {"model_digest": base or digest}
    part = {"files": {ADAPTER_FILE: {"sha256": digest}}} if base else None
    exports.finish(work.id, state, manifest=whole, adapter_manifest=part)
    return work.id
