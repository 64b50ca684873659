"""Exports in the trainer, with a stand-in for the process that builds: what lasts and what not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.bases import write_base

from adapters.artifacts.digest import ADAPTER_FILES
from adapters.artifacts.store import ArtifactStore
from adapters.quarantine import quarantine
from adapters.registry import Registry
from adapters.tables import versions
from adapters.types import Adapter, ArtifactInfo
from core.database import Database
from core.errors import AttuneError, Conflict, Invalid, Unavailable
from core.identity.tenants import TenantStore
from core.ids import CompletionId, Digest, TenantId
from core.settings import Settings
from core.work.kind import Place
from core.work.ledger import Ledger
from deploy.edge.manifest import Layout
from deploy.export.job import ExportSteps
from deploy.export.kind import Export, ExportOrder
from deploy.export.request import EXPORT, Exported, ExportFacts
from feedback.interactions import InteractionStore
from feedback.types import Interaction

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "support" / "fake_exporter.py"


@dataclass
class Installation:
    """A home with one tenant and its adapter `support`, versions 1 and 2."""

    settings: Settings
    tenant: TenantId
    adapter: Adapter
    exports: Ledger[ExportFacts]
    database: Database
    mode: Path

    @property
    def child(self) -> list[str]:
        return [sys.executable, str(FAKE), str(self.mode)]

    @property
    def kind(self) -> Export:
        kind = Export(Place(self.settings, self.database, "base", "tiny"))
        kind.builder = self.child  # type: ignore[misc]
        return kind

    def open(self, model: str = "support@1", layout: Layout = "merged") -> Exported:
        return self.kind.open(self.tenant, ExportOrder(model=model, layout=layout))

    def carry_out(self, export: Exported) -> Exported:
        """The steps as the worker calls them; how it ended."""
        kind = self.kind
        try:
            kind.workflow(lambda step: step)(export.id)
        finally:
            shutil.rmtree(kind.folder(export.id), ignore_errors=True)
        return self.exports.find(export.id)

    def asked(self) -> list[dict[str, Any]]:
        """What the stand-in was told, oldest first."""
        log = Path(f"{self.mode}.asked")
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def versions_asked(self) -> list[int | None]:
        adapters = [order["job"]["adapter"] for order in self.asked()]
        return [adapter["number"] if adapter else None for adapter in adapters]

    def left_over(self) -> list[Path]:
        folder = self.settings.home / "exports"
        staging = self.settings.home / "artifacts" / "staging"
        return [path for where in (folder, staging) if where.is_dir() for path in where.iterdir()]

    def blob(self, digest: str) -> Path:
        return self.settings.home / "artifacts" / "blobs" / digest[:2] / digest


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    model = write_base(tmp_path / "model")
    settings = Settings(home=tmp_path / "home", model=str(model))
    database = Database(settings.resolved_database_url())
    database.upgrade()
    tenant = TenantStore(database).create("acme")
    registry = Registry(database)
    adapter = registry.create(tenant.id, "support")
    artifacts = ArtifactStore(settings.resolved_artifacts_url())
    for number in (1, 2):
        folder = tmp_path / f"v{number}"
        folder.mkdir()
        for file in ADAPTER_FILES:
            (folder / file).write_text(f"{file} {number}")
        digest = artifacts.put_folder(folder)
        info = ArtifactInfo(digest, 1, 4, ("q_proj",))
        registry.add_version(adapter.id, info, source="upload")
    mode = tmp_path / "mode"
    mode.write_text("ok")
    store = Ledger(database, EXPORT)
    yield Installation(settings, tenant.id, adapter, store, database, mode)
    database.dispose()


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return found


def test_every_part_of_an_order_makes_it_another_export(here: Installation) -> None:
    def ask(model: str = "support@1", **fields: Any) -> Exported:
        return here.kind.open(here.tenant, ExportOrder(model=model, **fields))

    of_another_base = Export(Place(here.settings, here.database, "base", "another"))
    stranger = TenantStore(here.database).create("other").id
    first = ask()
    assert ask() == first
    others = [
        ask("support@2"),
        ask("base"),
        ask(layout="base+adapters"),
        ask(precision="int4"),
        of_another_base.open(here.tenant, ExportOrder(model="support@1")),
        here.kind.open(stranger, ExportOrder(model="base")),
    ]
    assert len({first.id, *(export.id for export in others)}) == 7
    assert len(here.exports.active()) == 7


def test_what_the_release_before_exported_is_found_again_by_its_key(here: Installation) -> None:
    versions = here.open("support@1"), ["support@1", here.adapter.id, 1, "merged"]
    bases = here.open("base", "base+adapters"), ["base", None, None, "base+adapters"]
    for export, what in (versions, bases):
        stated = json.dumps([here.tenant, *what, "int8", "tiny"])  # as that release wrote it
        key = hashlib.sha256(stated.encode()).hexdigest()
        found = here.exports.list(here.tenant, {"request_key": key}).items
        assert [one.id for one in found] == [export.id]


def test_a_merged_export_ends_in_the_store_with_nothing_left_beside(here: Installation) -> None:
    done = here.carry_out(here.open())
    assert (done.state, done.error, done.progress) == ("ready", None, 1.0)
    assert [file.path for file in done.facts.files] == ["model/model.onnx", "model/tokenizer.json"]
    assert all(
        here.blob(file.sha256).stat().st_size == file.size_bytes for file in done.facts.files
    )
    assert done.facts.manifest is not None
    assert done.facts.manifest["model"]["name"] == "support@1"
    assert done.facts.adapter_manifest is None
    assert here.left_over() == []
    (asked,) = here.asked()
    assert asked["job"]["adapter"]["digest"] in asked["job"]["adapter"]["folder"]


def test_a_second_version_builds_its_adapter_file_alone(here: Installation) -> None:
    first = here.carry_out(here.open("support@1", "base+adapters"))
    second = here.carry_out(here.open("support@2", "base+adapters"))
    alone = here.carry_out(here.open("base", "base+adapters"))
    assert [job["base"] is not None for job in here.asked()] == [False, True, True]
    assert here.versions_asked() == [None, 1, 2]
    assert first.facts.manifest == second.facts.manifest == alone.facts.manifest
    assert second.facts.adapter_manifest is not None
    assert (
        second.facts.adapter_manifest["base_model_digest"] == first.facts.manifest["model_digest"]
    )  # type: ignore[index]
    base_files = [file.path for file in alone.facts.files]
    assert base_files == ["model/model.onnx", "model/tokenizer.json"]
    assert [file.path for file in second.facts.files] == [
        *base_files,
        "adapters/support@2/adapter.onnx_adapter",
    ]


def test_a_base_that_was_damaged_is_exported_again(here: Installation) -> None:
    first = here.carry_out(here.open("base", "base+adapters"))
    here.blob(first.facts.files[0].sha256).write_bytes(b"spoilt")
    again = here.carry_out(here.open("support@1", "base+adapters"))
    assert again.state == "ready"
    assert len(here.asked()) == 3
    assert ArtifactStore(here.settings.resolved_artifacts_url()).file(
        Digest(first.facts.files[0].sha256)
    )


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("low", Conflict, "argmax_agreement 0.81"),
        ("full", Unavailable, "disk of the trainer is full"),
        ("crash", Unavailable, "the builder stumbled"),
    ],
)
def test_what_fails_says_why_and_leaves_nothing(
    here: Installation, mode: str, kind: type[AttuneError], words: str
) -> None:
    here.mode.write_text(mode)
    export = here.open("support@1", "base+adapters")
    with pytest.raises(kind, match=words):
        here.carry_out(export)
    assert here.left_over() == []
    assert not (here.settings.home / "artifacts" / "blobs").exists()
    seen = here.exports.find(export.id)
    assert (seen.facts.files, seen.facts.manifest) == ((), None)


def test_a_full_disk_of_the_artifact_store_is_told_as_such(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    export = here.open()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(Unavailable, match="disk of the artifact store is full") as told:
            here.carry_out(export)
    assert told.value.code == "disk_full"
    assert here.left_over() == []
    assert here.carry_out(export).state == "ready"


def test_a_folder_the_trainer_cannot_write_is_told_with_what_to_do(here: Installation) -> None:
    (here.settings.home / "exports").write_text("in the way")
    with pytest.raises(Unavailable, match=r"No access to the trainer: .*Then export again\."):
        here.carry_out(here.open())
    assert here.asked() == []


def test_damaged_weights_are_named_with_what_to_do(here: Installation) -> None:
    registry = Registry(here.database)
    digest = registry.version(here.adapter.id, 1).digest
    folder = here.settings.home / "artifacts" / "adapters" / digest[:2] / digest
    (folder / ADAPTER_FILES[1]).write_text("spoilt")
    with pytest.raises(Unavailable, match=r"support@1 cannot be read.*Restore.*export again"):
        here.carry_out(here.open())
    assert here.asked() == []


def test_a_cancel_ends_the_process_that_builds(here: Installation) -> None:
    here.mode.write_text("hang")
    export = here.open()
    ended: list[AttuneError] = []

    def carry_out() -> None:
        try:
            here.carry_out(export)
        except AttuneError as error:
            ended.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    until(lambda: here.exports.find(export.id).message == "Building the graph", "building")
    children = psutil.Process().children()
    here.exports.cancel(here.tenant, export.id)
    thread.join(30)
    assert [error.code for error in ended] == ["cancelled"]
    _, alive = psutil.wait_procs(children, timeout=10)
    assert [process for process in alive if "fake_exporter" in str(process.cmdline())] == []
    assert here.left_over() == []


def test_a_tenants_own_prompts_are_used_if_there_are_enough(here: Installation) -> None:
    log = InteractionStore(here.database)

    def answered(number: int, **changes: Any) -> Interaction:
        values: dict[str, Any] = {
            "id": CompletionId(f"chatcmpl-{number}"),
            "tenant_id": here.tenant,
            "endpoint": "chat.completions",
            "created_at_s": float(number),
            "outcome": "completed",
            "model_requested": "support",
            "model_answered": "support@1",
            "adapter_id": here.adapter.id,
            "version": 1,
            "explored": False,
            "prompt": ({"role": "user", "content": f"Question {number // 2}?"},),
            "answers": ("Yes.",),
            "finish_reason": "stop",
            **changes,
        }
        return Interaction(**values)

    log.append([answered(n) for n in range(98)])  # 49 questions, each twice
    log.append([answered(200, prompt="plain text"), answered(201, outcome="cancelled")])
    long = ({"role": "user", "content": "x" * 5000},)
    log.append([answered(202, prompt=long), answered(203, tenant_id=TenantId("other"))])
    here.carry_out(here.open("support@1"))
    assert here.asked()[-1]["job"]["prompts"] == []
    log.append([answered(n) for n in range(300, 500)])
    done = here.carry_out(here.open("support@2", "base+adapters"))
    base, adapter = (asked["job"] for asked in here.asked()[-2:])
    assert base["prompts"] == []  # shared by all tenants
    assert len(adapter["prompts"]) == 64
    assert adapter["prompts"][0] == [{"role": "user", "content": "Question 249?"}]
    assert "Question" not in json.dumps(
        [done.facts.manifest, done.facts.adapter_manifest, done.message]
    )


def test_the_real_process_says_what_is_wrong_in_our_own_errors(here: Installation) -> None:
    place = Place(here.settings, here.database, "base", "tiny")
    steps = ExportSteps(place, Export.builder, here.kind.folder)
    with pytest.raises(Invalid, match="names no architecture"):
        steps.build(here.open().id)  # the model's config.json has none


def test_a_version_made_for_another_base_model_is_not_exported(here: Installation) -> None:
    fits = here.carry_out(here.open("support@2"))
    assert fits.state == "ready"
    with here.database.write() as connection:
        connection.execute(versions.update().values(base_digest="f" * 64))
    with pytest.raises(Conflict, match="was made for another base model"):
        here.carry_out(here.open("support@1"))


WORKER = """
import sys
from core.settings import Settings
from deploy.export.kind import Export
from trainer.worker import Worker
Export.builder = sys.argv[1:]
Worker(Settings(), [Export]).run(lambda: False)
"""


def test_an_export_whose_worker_is_killed_is_finished_by_the_next(here: Installation) -> None:
    """kill -9 with the base done and the adapter being built: the base is not built again."""
    here.carry_out(here.open("base", "base+adapters"))
    here.mode.write_text("hang")
    export = here.open("support@1", "base+adapters")
    first = start_worker(here)
    until(lambda: here.exports.find(export.id).message == "Building the graph", "building")
    builder = until(lambda: psutil.Process(first.pid).children(), "a child")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert psutil.wait_procs(builder, timeout=20)[1] == []
    here.mode.write_text("ok")
    queued = here.open("support@2", "base+adapters")
    second = start_worker(here)
    try:
        until(lambda: here.exports.find(export.id).state == "ready", "the export")
        until(lambda: here.exports.find(queued.id).state == "ready", "the next export")
        until(lambda: here.left_over() == [], "the tidying")
    finally:
        second.kill()
        second.wait()
    assert here.versions_asked() == [None, 1, 1, 2]


def test_a_worker_leaves_nothing_of_what_failed_or_was_cancelled(here: Installation) -> None:
    here.mode.write_text("low")
    failing = here.open("support@1")
    worker = start_worker(here)
    try:
        failed = until(lambda: ended(here, failing), "the failure")
        assert failed.state == "failed"
        assert "argmax_agreement 0.81" in (failed.error or "")
        until(lambda: here.left_over() == [], "the tidying after the failure")
        here.mode.write_text("hang")
        hanging = here.open("support@2")
        until(lambda: here.exports.find(hanging.id).message == "Building the graph", "building")
        assert here.left_over() != []
        here.exports.cancel(here.tenant, hanging.id)
        assert until(lambda: ended(here, hanging), "the end").state == "cancelled"
        until(lambda: here.left_over() == [], "the tidying after the cancel")
    finally:
        worker.kill()
        worker.wait()


def ended(here: Installation, export: Exported) -> Exported | None:
    found = here.exports.find(export.id)
    return None if found.is_active else found


def start_worker(here: Installation) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ATTUNE_HOME": str(here.settings.home),
        "ATTUNE_MODEL": here.settings.model,
        "ATTUNE_TRAINER_POLL_S": "0.05",
    }
    return subprocess.Popen([sys.executable, "-c", WORKER, *here.child], env=environment, cwd=ROOT)


def test_a_version_quarantined_since_it_was_ordered_is_not_built(here: Installation) -> None:
    ordered = here.open("support@1")
    quarantine(here.database, here.adapter.id, 1, "absurd")
    with pytest.raises(Conflict, match="quarantined"):
        here.carry_out(ordered)
    assert here.asked() == []
    with pytest.raises(Conflict, match="quarantined"):
        here.open("support@1")
    assert here.carry_out(here.open("support@2")).state == "ready"
