"""Checks of uploads run in processes of their own: bounded in time, ended with who waits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import psutil
import pytest
from support.asgi import BASE, write_adapter

from adapters.intake.process import CHILD
from adapters.validate import validate_adapter
from core.errors import Invalid, NotFound, Unavailable
from core.ids import TenantId
from server.intake import Intake

# It has begun once its mark is there, and never ends by itself.
SLOW = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"


class Desk:
    """Checks by a stand-in that says it has begun and then never ends."""

    def __init__(self, folder: Path, *, at_once: int = 2, limit_s: float = 60.0) -> None:
        self.mark = folder / "begun"
        command = (sys.executable, "-c", SLOW, str(self.mark))
        self.intake = Intake(BASE, max_rank=16, limit_s=limit_s, at_once=at_once, command=command)

    async def begin(self, tenant: str = "acme") -> asyncio.Task[object]:
        work = self.intake.check(TenantId(tenant), Path("given"), Path("out"))
        return asyncio.create_task(work)

    @property
    def running(self) -> int:
        me = psutil.Process()
        return sum(str(self.mark) in " ".join(child.cmdline()) for child in me.children())


async def until(desk: Desk, running: int) -> None:
    async with asyncio.timeout(20):
        while desk.running != running:
            await asyncio.sleep(0.01)


async def check(tmp_path: Path, given: Path) -> None:
    intake = Intake(BASE, max_rank=16, limit_s=60, at_once=1, command=CHILD)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    info = await intake.check(TenantId("acme"), given, out)
    assert info == validate_adapter(out, BASE, max_rank=16)


async def test_the_process_says_what_it_found(tmp_path: Path) -> None:
    given = tmp_path / "given"
    write_adapter(given)
    await check(tmp_path, given)
    (given / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(Invalid, match="'IA3'") as refused:
        await check(tmp_path, given)
    assert (refused.value.param, refused.value.code) == ("config", "invalid_value")


async def test_what_kills_its_process_is_refused(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    intake = Intake(BASE, max_rank=16, limit_s=60, at_once=1, command=command)
    with pytest.raises(Invalid, match="could not be checked"):
        await intake.check(TenantId("acme"), tmp_path, tmp_path)


async def test_a_check_is_ended_at_its_limit(tmp_path: Path) -> None:
    desk = Desk(tmp_path, limit_s=0.5)
    task = await desk.begin()
    await until(desk, 1)
    with pytest.raises(Invalid, match=r"within 0\.5 s"):
        await task
    assert desk.running == 0


async def test_a_check_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    task = await desk.begin()
    await until(desk, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert desk.running == 0


async def test_one_tenant_has_one_place_however_much_it_sends(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    tasks = [await desk.begin() for _ in range(6)]
    await until(desk, 1)
    tasks.append(await desk.begin("other"))
    await until(desk, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert desk.running == 0


async def test_a_missing_file_keeps_its_kind(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await check(tmp_path, tmp_path)


async def test_a_disk_in_trouble_is_not_the_uploads_fault(tmp_path: Path) -> None:
    given = tmp_path / "given"
    write_adapter(given)
    intake = Intake(BASE, max_rank=16, limit_s=60, at_once=1)
    with pytest.raises(Unavailable, match="the artifact store"):
        await intake.check(TenantId("acme"), given, tmp_path / "gone")
