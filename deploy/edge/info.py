"""What is on this device: versions, whether their files are whole, what waits to be synced."""

from __future__ import annotations

from typing import Any

from core.errors import AttuneError
from core.shown import shown
from deploy.edge.installed import Installation
from deploy.edge.store import Store


def inspect(installation: Installation) -> dict[str, Any]:
    """Everything `attune edge info` shows; reads and checks every file. `whole` sums it up."""
    manifest = installation.manifest
    damaged: dict[str, str] = {}
    try:
        installation.check_model()
    except AttuneError as error:
        damaged["model"] = error.message
    damaged |= installation.problems()
    figures = manifest.verification
    items: dict[str, Any] = {"counts": None, "rejected": []}
    if installation.database.exists():
        store = Store(installation.database)
        items = {
            "device": store.device,
            "counts": store.counts(),
            "rejected": [
                {"type": kind, "id": item_id, "reason": reason}
                for kind, item_id, reason in store.rejected()
            ],
        }
        store.close()
    return {
        "folder": str(installation.folder),
        "model": manifest.model.name,
        "base": manifest.model.base,
        "architecture": manifest.model.architecture,
        "context_length": manifest.model.context_length,
        "layout": manifest.layout,
        "precision": manifest.precision,
        "model_digest": manifest.model_digest,
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        "argmax_agreement": figures.argmax_agreement if figures else None,
        "adapters": [
            {"name": variant.name, "digest": variant.digest} for variant in installation.adapters()
        ],
        "names": installation.names(),
        "damaged": damaged,
        "whole": not damaged,
        "items": items,
    }


def told(found: dict[str, Any]) -> str:
    """The same for people, in lines."""
    lines = [
        f"{found['folder']}: {found['model']} ({found['layout']}, {found['precision']}, "
        f"{found['size_bytes'] / 1e6:.1f} MB, {found['architecture']}, context "
        f"{found['context_length']:,})",
        f"  model digest  {found['model_digest']}"
        f"{'' if 'model' in found['damaged'] else '  checked'}",
    ]
    for adapter in found["adapters"]:
        state = "" if adapter["name"] in found["damaged"] else "  checked"
        lines.append(f"  {adapter['name']:<12}  {adapter['digest']}{state}")
    lines += [f"  DAMAGED {name}: {reason}" for name, reason in found["damaged"].items()]
    lines.append(f"  answers to    {', '.join(found['names'])}")
    counts = found["items"]["counts"]
    for kind, title in (("interaction", "answers"), ("feedback", "feedback")):
        of = counts[kind] if counts else {"waiting": 0, "synced": 0, "rejected": 0}
        lines.append(
            f"  {title:<12}  {of['waiting']} not synced, {of['synced']} synced, "
            f"{of['rejected']} rejected by the server"
        )
    for item in found["items"]["rejected"]:
        lines.append(f"    rejected {item['type']} {item['id']}: {item['reason']}")
    return "\n".join(map(shown, lines))
