"""What devices may have: the models in a tenant's finished exports, by their digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adapters.routing import BASE
from core.ids import TenantId
from core.page import MAX_PAGE
from core.work.ledger import Ledger
from deploy.edge.manifest import ADAPTER_FILE
from deploy.export.request import Exported, ExportFacts


def digests_given(exports: Ledger[ExportFacts], tenant_id: TenantId, model: str) -> frozenset[str]:
    """Every digest under which the tenant's finished exports hold `model`, `support@3` or `base`.

    The digest is the model's; of an adapter beside its base the SHA-256 of its file.
    """
    # The base lies in the exports of adapters as well.
    wheres = [{"model": model}] + [{"layout": "base+adapters"}] * (model == BASE)
    return frozenset(
        digest
        for where in wheres
        for export in _ready(exports, tenant_id, where)
        for held, digest in _models(export.facts)
        if held == model and digest
    )


def _ready(
    exports: Ledger[ExportFacts], tenant_id: TenantId, where: Mapping[str, str]
) -> Iterator[Exported]:
    after, ready = None, {**where, "state": "ready"}
    while True:
        page = exports.list(tenant_id, ready, after=after, limit=MAX_PAGE)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id


def _models(facts: ExportFacts) -> Iterator[tuple[str, str | None]]:
    whole, part = facts.manifest or {}, facts.adapter_manifest or {}
    yield BASE if facts.layout == "base+adapters" else facts.model, whole.get("model_digest")
    yield facts.model, part.get("files", {}).get(ADAPTER_FILE, {}).get("sha256")
