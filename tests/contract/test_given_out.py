"""What a device says answered is what the ledger says was given out: one digest on both sides."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.edge import make_adapter, make_model

from core.database import Database
from core.ids import TenantId
from core.work.ledger import Ledger
from deploy.edge.installed import Installation
from deploy.edge.manifest import Manifest
from deploy.export.given_out import digests_given
from deploy.export.request import EXPORT, ExportFacts

ACME, OTHER = TenantId("acme"), TenantId("other")


def exported(
    exports: Ledger[ExportFacts], model: str, whole: Manifest, part: Manifest | None = None
) -> None:
    """What the trainer records of a finished export."""
    version = int(model.partition("@")[2] or 0) or None
    assert whole.layout is not None
    facts = ExportFacts(model, version, whole.layout, whole.precision)
    work, _ = exports.open(ACME, f"{model} {whole.model_digest}"[:60], facts)
    adapter_manifest = part.to_json() if part else None
    exports.finish(work.id, "ready", manifest=whole.to_json(), adapter_manifest=adapter_manifest)


@pytest.mark.parametrize("name", ["support@3", "base"])
def test_a_merged_export_is_known_by_what_its_device_tells(
    database: Database, tmp_path: Path, name: str
) -> None:
    exports = Ledger(database, EXPORT)
    exported(exports, name, make_model(tmp_path, name, layout="merged"))
    own = Installation(tmp_path).own()
    assert own.digest in digests_given(exports, ACME, name)
    assert digests_given(exports, OTHER, name) == frozenset()
    assert digests_given(exports, ACME, "support@4") == frozenset()


def test_an_adapter_and_its_base_are_known_by_what_their_device_tells(
    database: Database, tmp_path: Path
) -> None:
    exports = Ledger(database, EXPORT)
    base = make_model(tmp_path)
    for number in (3, 4):
        exported(
            exports, f"support@{number}", base, make_adapter(tmp_path, f"support@{number}", base)
        )
    installed = Installation(tmp_path)
    for name in ("support@3", "support@4", "base"):
        assert digests_given(exports, ACME, name) == {installed.find(name).digest}
    assert len({installed.find(name).digest for name in ("support@3", "support@4", "base")}) == 3


def test_every_export_of_a_version_counts_over_all_pages(
    database: Database, tmp_path: Path
) -> None:
    """A device in the field keeps the one it has, however many came after it."""
    exports = Ledger(database, EXPORT)
    facts = ExportFacts("support@3", 3, "merged", "fp32")
    for number in range(203):
        work, _ = exports.open(ACME, f"k{number}", facts)
        exports.finish(work.id, "ready", manifest={"model_digest": f"{number:064x}"})
    assert len(digests_given(exports, ACME, "support@3")) == 203
