"""New versions for this device: fetched aside, checked, and put in place by one rename.

Owns the order of steps that keeps DIR usable whatever breaks: everything lands in DIR/.pull first
(and stays there for the next try to go on with); an adapter becomes visible when its folder is
renamed; a model when DIR/manifest.json is, its files being at their new place before and the old
ones removed after.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core.errors import AttuneError, Conflict, Invalid, NotFound, Unavailable
from deploy.edge.http import Broken, Patience, Server
from deploy.edge.installed import (
    BASE,
    MODELS_FOLDER,
    TRANSFER_FOLDERS,
    Installation,
    Variant,
    model_root,
    require_no_strangers_model,
)
from deploy.edge.manifest import (
    ADAPTER_FILE,
    ADAPTERS_FOLDER,
    MANIFEST_NAME,
    MODEL_FOLDER,
    FileEntry,
    Manifest,
    adapter_folder,
    check_files,
    digest_of,
    read_manifest,
    sync_folder,
    write_manifest,
)
from deploy.edge.sync import alone

STAGING = TRANSFER_FOLDERS[0]
_PAGES = 50


@dataclass(frozen=True, slots=True)
class Offer:
    """A finished export on the server."""

    id: str
    manifest: Manifest
    adapter: Manifest | None

    @property
    def name(self) -> str:
        return (self.adapter or self.manifest).model.name

    @property
    def version(self) -> int:
        return (self.adapter or self.manifest).model.version or 0


@dataclass(frozen=True, slots=True)
class Puller:
    """One pull from `server` into `folder`; `say` is told each step."""

    folder: Path
    server: Server
    patience: Patience
    say: Callable[[str], None] = print

    def pull(self, adapter: str | None, layout: str | None, precision: str | None) -> list[str]:
        """Fetch what is newer than what is installed; the names of what is now new.

        A folder without a manifest gets a whole export: of `adapter` (or `base`), in the one
        layout and precision there is or that is named. Raises NotFound, Conflict (another base,
        a digest that differs, a pull under way), Unavailable (broken off, disk full); what was
        installed stays in use then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder, "pull"), _told():
            try:
                read_manifest(self.folder)
            except Invalid as error:
                if (self.folder / MANIFEST_NAME).exists():
                    self.say(f"{error.message} Fetching all of it.")
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
        staged = self._fetch_model(offer)
        if offer.adapter is not None:
            self._place_adapter(offer, offer.adapter)
        self._place_model(staged, offer.manifest)
        self._sweep(offer.manifest)
        return [offer.name]

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
        if (same or offer.version < (old.model.version or 0)) and _whole(installation):
            self.say(f"{old.model.name} is the newest.")
            return []
        self._place_model(self._fetch_model(offer), offer.manifest)
        self._sweep(offer.manifest)
        return [offer.name]

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
        come += self._mended(installation, names)
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)
        if failures:
            for done in come:
                self.say(f"{done} is installed now.")
            for failure in failures[1:]:
                self.say(failure.message)
            raise failures[0]
        return come

    def _newer_adapter(self, base: Manifest, name: str, installed: Sequence[Variant]) -> list[str]:
        offer = self._offers(name, "base+adapters", base.precision)[0]
        if offer.adapter is None:
            raise NotFound(f"'{name}' is no adapter; the base is in {self.folder} already.")
        versions = [variant.version or 0 for variant in installed if variant.adapter == name]
        if versions and max(versions) >= offer.version:
            self.say(f"{name}@{max(versions)} is the newest.")
            return []
        self._check_base(base, offer)
        self._place_adapter(offer, offer.adapter)
        return [offer.name]

    def _mended(self, installation: Installation, names: Sequence[str]) -> list[str]:
        """Fetch a damaged base anew, from any export that has the same one."""
        if _whole(installation):
            return []
        manifest = installation.manifest
        for name in names:
            with suppress(NotFound):
                for offer in self._offers(name, "base+adapters", manifest.precision):
                    if offer.manifest.model_digest == manifest.model_digest:
                        self._place_model(self._fetch_model(offer), offer.manifest)
                        self._sweep(offer.manifest)
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
                f"{offer.name} on the server was made for another base "
                f"({str(needed[0])[:12]}) than the one in {self.folder} "
                f"({str(installed.model_digest)[:12]}), which stays in use. The base has to be "
                f"fetched too: `attune edge pull NEWFOLDER --from {self.server.url} --adapter "
                f"{offer.name.partition('@')[0]} --layout base+adapters --precision "
                f"{installed.precision}`.",
                code="another_base",
            )

    def _offers(self, name: str, layout: str | None, precision: str | None) -> list[Offer]:
        """Ready exports of an adapter (or `base`), newest first. NotFound if there are none."""
        # The server's own filter by model means one version; we want every version of the line.
        wanted = {"state": "ready", "layout": layout, "precision": precision}
        query = {key: value for key, value in wanted.items() if value is not None}
        found: list[tuple[Offer, str]] = []
        for export in self._listed({**query, "limit": "100"}):
            offer = _offer(export)
            line = (offer.adapter or offer.manifest).model.adapter or BASE
            fits = layout in (None, offer.manifest.layout) and precision in (
                None,
                offer.manifest.precision,
            )
            if export.get("state") == "ready" and line == name and fits:
                found.append((offer, str(export.get("created_at"))))
        if not found:
            form = ", ".join(part for part in (layout, precision) if part)
            raise NotFound(
                f"The server has no finished export of '{name}'{f' ({form})' if form else ''}. "
                f"Make one there: `attune export {name}"
                f"{f' --layout {layout}' if layout else ''}"
                f"{f' --precision {precision}' if precision else ''}`.",
                code="export_not_found",
            )
        found.sort(key=lambda pair: (pair[0].version, pair[1]), reverse=True)
        return [offer for offer, _ in found]

    def _listed(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        after: dict[str, str] = {}
        for _ in range(_PAGES):
            page = self.patience.keep_trying(
                partial(self.server.get, "/v1/exports", {**query, **after})
            )
            exports = [one for one in page.get("data") or [] if isinstance(one, dict)]
            yield from exports
            if not page.get("has_more") or not exports:
                return
            after = {"after": str(exports[-1].get("id"))}

    def _fetch_model(self, offer: Offer) -> Path:
        """The model's files in the staging folder, checked against the manifest."""
        manifest = offer.manifest
        if manifest.model_digest != digest_of(manifest.files) or manifest.kind == "adapter":
            raise Conflict(f"The server's manifest of {offer.name} does not fit itself.")
        staged = self._staging(str(manifest.model_digest))
        self._fetch(offer.id, "", manifest.files, staged)
        check_files(staged, manifest)
        return staged

    def _place_model(self, staged: Path, manifest: Manifest) -> None:
        """Put a checked model where the manifest will look for it, then the manifest."""
        root = self.folder
        if (root / MODEL_FOLDER).exists():
            root = self.folder / MODELS_FOLDER / str(manifest.model_digest)[:8]
            root.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(root / MODEL_FOLDER, ignore_errors=True)
        (staged / MODEL_FOLDER).rename(root / MODEL_FOLDER)
        sync_folder(root)
        sync_folder(root.parent)
        write_manifest(self.folder, manifest)

    def _place_adapter(self, offer: Offer, manifest: Manifest) -> None:
        entry = manifest.files.get(ADAPTER_FILE)
        if entry is None or manifest.kind != "adapter":
            raise Conflict(f"The server's manifest of {offer.name} names no {ADAPTER_FILE}.")
        target = adapter_folder(self.folder, offer.name)
        staged = self._staging(entry.sha256)
        self._fetch(offer.id, f"{ADAPTERS_FOLDER}/{offer.name}/", manifest.files, staged)
        check_files(staged, manifest)
        write_manifest(staged, manifest)
        target.parent.mkdir(exist_ok=True)
        if target.exists():  # damaged, or left over from a base that is no longer here
            shutil.rmtree(target)
        staged.rename(target)
        sync_folder(target.parent)

    def _staging(self, digest: str) -> Path:
        """A folder for one download, named by what will be in it, so that a later try finds it."""
        staged = self.folder / STAGING / digest
        staged.mkdir(parents=True, exist_ok=True)
        return staged

    def _fetch(
        self, export_id: str, below: str, files: Mapping[str, FileEntry], target: Path
    ) -> None:
        missing = sum(entry.size_bytes - _size(target / name) for name, entry in files.items())
        free = shutil.disk_usage(target).free
        if missing > free:
            raise Unavailable(
                f"The disk of {self.folder} has {free:,} bytes free; {missing:,} are needed.",
                code="disk_full",
            )
        for name, entry in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if _size(path) < entry.size_bytes:
                self.say(f"Fetching {below}{name} ({entry.size_bytes:,} bytes) ...")
            route = f"/v1/exports/{quote(export_id, safe='')}/files/{quote(below + name)}"
            self.patience.keep_trying(
                partial(self.server.fetch, route, entry, path), partial(_size, path)
            )
            sync_folder(path.parent)

    def _sweep(self, manifest: Manifest) -> None:
        """Remove what no manifest points to any more: old models, finished staging."""
        root = model_root(self.folder, manifest)
        for old in (self.folder / MODELS_FOLDER).glob("[0-9a-f]" * 8):
            if old != root:
                shutil.rmtree(old, ignore_errors=True)
        if root != self.folder:
            shutil.rmtree(self.folder / MODEL_FOLDER, ignore_errors=True)
        with suppress(OSError):
            (self.folder / MODELS_FOLDER).rmdir()
        shutil.rmtree(self.folder / STAGING, ignore_errors=True)


def _offer(export: Mapping[str, Any]) -> Offer:
    where = f"The server's manifest of {str(export.get('model'))[:80]}"
    adapter = export.get("adapter_manifest")
    return Offer(
        id=str(export.get("id")),
        manifest=Manifest.from_json(export.get("manifest"), where=where),
        adapter=None if adapter is None else Manifest.from_json(adapter, where=where),
    )


def _whole(installation: Installation) -> bool:
    try:
        installation.check_model()
    except AttuneError:
        return False
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _told() -> Iterator[None]:
    """Failures halfway, in words that say what stays."""
    stays = "What was installed stays in use; pull again to go on from here."
    try:
        yield
    except Broken as error:
        raise Unavailable(f"{error.message} {stays}", code="transfer_broken") from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "The disk is full" if full else f"The folder cannot be written ({error})"
        code = "disk_full" if full else "store_unavailable"
        raise Unavailable(f"{what}. {stays}", code=code) from error
