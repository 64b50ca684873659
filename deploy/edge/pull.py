"""Which versions a device needs: newer than what is installed, made for its base, or missing.

Owns the choice among the server's exports and its words. How files come is `download`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import AttuneError, Conflict, Invalid, NotFound
from deploy.edge.download import Download, Offer, is_there, transfer
from deploy.edge.http import Server
from deploy.edge.installed import BASE, Installation, Variant, require_no_strangers_model
from deploy.edge.manifest import MANIFEST_NAME, Manifest, read_manifest

_PAGES = 50


@dataclass(frozen=True, slots=True)
class Puller:
    """One pull from `server` into `folder`; the server's patience is told each step."""

    folder: Path
    server: Server

    @property
    def _download(self) -> Download:
        return Download(self.folder, self.server)

    def pull(self, adapter: str | None, layout: str | None, precision: str | None) -> list[str]:
        """Fetch what is newer than what is installed; the names of what is now new.

        A folder without a manifest gets a whole export: of `adapter` (or `base`), in the one
        layout and precision there is or that is named. Raises NotFound, Conflict (another base,
        a digest that differs, a pull under way), Unavailable (broken off, disk full); what was
        installed stays in use then.
        """
        with transfer(self.folder):
            try:
                read_manifest(self.folder)
            except Invalid as error:
                if (self.folder / MANIFEST_NAME).exists():
                    self.server.patience.say(f"{error.message} Fetching all of it.")
                return self._first(adapter, layout, precision)
            installation = Installation(self.folder)
            manifest = installation.manifest
            if layout not in (None, manifest.layout) or precision not in (None, manifest.precision):
                raise Conflict(
                    f"{self.folder} holds {manifest.layout}, {manifest.precision}. Pull another "
                    "layout or precision into a folder of its own."
                )
            if manifest.kind == "merged" or manifest.layout == "merged":
                return self._newer_model(installation, adapter)
            return self._newer_adapters(installation, adapter)

    def _first(self, adapter: str | None, layout: str | None, precision: str | None) -> list[str]:
        if adapter is None:
            raise Invalid(
                f"{self.folder} holds no export yet. Name what to fetch: --adapter NAME, or "
                "--adapter base."
            )
        require_no_strangers_model(self.folder)
        offers = self._offers(adapter, layout, precision)
        kinds = {(offer.manifest.layout, offer.manifest.precision) for offer in offers}
        if len(kinds) > 1:
            known = "; ".join(sorted(f"--layout {kind[0]} --precision {kind[1]}" for kind in kinds))
            raise Invalid(f"The server has '{adapter}' in several forms. Name one: {known}.")
        offer = offers[0]
        if offer.adapter is not None:
            self._check_base(offer.manifest, offer)
        self._download.whole(offer)
        return [offer.model.name]

    def _newer_model(self, installation: Installation, adapter: str | None) -> list[str]:
        old = installation.manifest
        name = old.model.adapter or BASE
        if adapter not in (None, name):
            raise Conflict(
                f"{self.folder} holds '{name}' merged into its model. Pull '{adapter}' into a "
                "folder of its own."
            )
        offer = self._offers(name, old.layout, old.precision)[0]
        same = offer.manifest.model_digest == old.model_digest
        older = (offer.model.version or 0) < (old.model.version or 0)
        if (same or older) and is_there(self.folder, old):
            self.server.patience.say(f"{old.model.name} is the newest.")
            return []
        self._download.whole(offer)
        return [offer.model.name]

    def _newer_adapters(self, installation: Installation, adapter: str | None) -> list[str]:
        installed = installation.adapters()
        names = list(dict.fromkeys(variant.adapter for variant in installed if variant.adapter))
        if adapter is not None:
            names = [adapter]
        if not names:
            raise Invalid(
                f"{self.folder} has no adapter yet. Name the one to fetch: --adapter NAME."
            )
        broken = installation.problems()
        sound = [variant for variant in installed if variant.name not in broken]
        come: list[str] = []
        failures: list[AttuneError] = []
        for name in names:
            try:
                come += self._newer_adapter(installation.manifest, name, sound)
            except (NotFound, Conflict) as error:  # of no concern to the other adapters
                failures.append(error)
        come += self._mended(installation.manifest, names)
        self._download.forget()
        if failures:
            for done in come:
                self.server.patience.say(f"{done} is installed now.")
            for failure in failures[1:]:
                self.server.patience.say(failure.message)
            raise failures[0]
        return come

    def _newer_adapter(self, base: Manifest, name: str, installed: Sequence[Variant]) -> list[str]:
        offer = self._offers(name, "base+adapters", base.precision)[0]
        if offer.adapter is None:
            raise NotFound(f"'{name}' is no adapter; the base is in {self.folder} already.")
        versions = [variant.version or 0 for variant in installed if variant.adapter == name]
        if versions and max(versions) >= (offer.model.version or 0):
            self.server.patience.say(f"{name}@{max(versions)} is the newest.")
            return []
        self._check_base(base, offer)
        self._download.adapter(offer, offer.adapter)
        return [offer.model.name]

    def _mended(self, manifest: Manifest, names: Sequence[str]) -> list[str]:
        """Fetch a damaged base anew, from any export that has the same one."""
        if is_there(self.folder, manifest):
            return []
        for name in names:
            with suppress(NotFound):
                for offer in self._offers(name, "base+adapters", manifest.precision):
                    if offer.manifest.model_digest == manifest.model_digest:
                        self._download.whole(replace(offer, adapter=None))
                        return [BASE]
        raise NotFound(
            f"The base in {self.folder} is damaged and the server has it no more. Pull into a new "
            "folder."
        )

    def _check_base(self, installed: Manifest, offer: Offer) -> None:
        needed = (
            offer.adapter.base_model_digest if offer.adapter else None,
            offer.manifest.model_digest,
        )
        if set(needed) != {installed.model_digest}:
            raise Conflict(
                f"{offer.model.name} on the server was made for another base "
                f"({str(needed[0])[:12]}) than the one in {self.folder} "
                f"({str(installed.model_digest)[:12]}), which stays in use. The base has to be "
                f"fetched too: `attune edge pull NEWFOLDER --from {self.server.url} --adapter "
                f"{offer.model.name.partition('@')[0]} --layout base+adapters --precision "
                f"{installed.precision}`.",
                code="another_base",
            )

    def _offers(self, name: str, layout: str | None, precision: str | None) -> list[Offer]:
        """Ready exports of an adapter (or `base`), newest first. NotFound if there are none."""
        wanted = {"state": "ready", "layout": layout, "precision": precision, "limit": "100"}
        query = {key: value for key, value in wanted.items() if value is not None}
        offers = [Offer.from_json(export) for export in self._listed(query)]
        found = [offer for offer in offers if (offer.model.adapter or BASE) == name]
        if not found:
            form = ", ".join(part for part in (layout, precision) if part)
            raise NotFound(
                f"The server has no finished export of '{name}'{f' ({form})' if form else ''}. "
                f"Make one there: `attune export {name}"
                f"{f' --layout {layout}' if layout else ''}"
                f"{f' --precision {precision}' if precision else ''}`.",
                code="export_not_found",
            )
        return sorted(
            found, key=lambda offer: (offer.model.version or 0, offer.created_at), reverse=True
        )

    def _listed(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        after: dict[str, str] = {}
        for _ in range(_PAGES):
            page = self.server.get("/v1/exports", {**query, **after})
            exports = [one for one in page.get("data") or [] if isinstance(one, dict)]
            yield from exports
            if not page.get("has_more") or not exports:
                return
            after = {"after": str(exports[-1].get("id"))}
