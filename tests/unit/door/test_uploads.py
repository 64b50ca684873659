"""Uploads over HTTP: which files are taken, and what is left of one that fails."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import sys
from pathlib import Path

import psutil
import pytest
from support.asgi import BASE, Door, write_adapter

from adapters.artifacts.digest import ADAPTER_FILES
from server.intake import Intake

pytestmark = pytest.mark.slow  # a server for each test

CONFIG, WEIGHTS = ADAPTER_FILES
SLOW = "import time; time.sleep(600)  # this check never ends"


@pytest.fixture
def sound(door: Door, tmp_path: Path) -> list[tuple[str, bytes]]:
    """The two files of an adapter that is taken."""
    door.runtime.registry.create(door.tenant.id, "support")
    write_adapter(tmp_path / "a")
    return [(file, (tmp_path / "a" / file).read_bytes()) for file in ADAPTER_FILES]


def kept(home: Path) -> list[Path]:
    """Files and folders of adapters in the store, finished or not."""
    artifacts = home / "artifacts"
    return [*artifacts.glob("staging/*"), *artifacts.glob("adapters/*/*")]


def checks() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if SLOW in " ".join(child.cmdline())]


async def until_checking(count: int) -> None:
    async with asyncio.timeout(20):
        while len(checks()) != count:
            await asyncio.sleep(0.01)


def never_ending(door: Door) -> None:
    command = (sys.executable, "-c", SLOW)
    door.runtime.intake = Intake(BASE, max_rank=16, limit_s=600, at_once=2, command=command)


@pytest.mark.parametrize("name", [f"../{CONFIG}", f"/tmp/{CONFIG}", f"a/{CONFIG}", "a\\..\\b", ""])
async def test_only_plain_file_names_are_taken(
    door: Door, sound: list[tuple[str, bytes]], name: str
) -> None:
    reply = await door.send_files("support", [(name, sound[0][1]), sound[1]])
    assert (reply.status, reply.error["param"]) == (400, "file")
    assert (await door.send_files("support", sound)).status == 201


async def test_what_else_lies_in_an_adapters_folder_is_passed_over(
    door: Door, sound: list[tuple[str, bytes]]
) -> None:
    others = ("README.md", "tokenizer.json", "special_tokens_map.json", "optimizer.safetensors")
    reply = await door.send_files("support", [*sound, *((name, b"{}") for name in others)])
    assert reply.status == 201
    folder = door.runtime.artifacts.folder(json.loads(reply.body)["digest"])
    assert sorted(path.name for path in folder.iterdir()) == sorted(ADAPTER_FILES)


async def test_pickled_weights_are_refused_with_how_to_convert_them(
    door: Door, sound: list[tuple[str, bytes]]
) -> None:
    pickled = pickle.dumps({"a": 1})
    for name in ("adapter_model.bin", "training_args.bin", "optimizer.pt", "x.ckpt"):
        for files in ([*sound, (name, pickled)], [sound[0], (name, pickled)]):
            reply = await door.send_files("support", files)
            assert reply.status == 400
            assert "save_file(" in reply.error["message"]
            assert "weights_only=True" in reply.error["message"]


async def test_a_file_is_taken_once_and_files_by_the_dozen(
    door: Door, sound: list[tuple[str, bytes]]
) -> None:
    assert (await door.send_files("support", [*sound, sound[0]])).status == 400
    many = [(f"{at}.md", b"") for at in range(100)]
    refused = await door.send_files("support", [*sound, *many])
    assert refused.status == 400
    assert "Too many files" in refused.error["message"]
    assert (await door.send_files("support", [*sound, *many[:30]])).status == 201


async def test_a_refused_adapter_leaves_nothing_behind(
    door: Door, sound: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    assert kept(tmp_path) == []
    assert (await door.send_files("support", [(CONFIG, b"{}"), sound[1]])).status == 400
    door.engine.absurd = lambda path: path.parent.parent.name == "staging"
    refused = await door.send_files("support", sound)
    assert (refused.status, refused.error["code"]) == (400, "absurd_weights")
    assert kept(tmp_path) == []
    door.engine.absurd = lambda path: False
    assert (await door.send_files("support", sound)).status == 201
    assert len(kept(tmp_path)) == 1


async def test_a_client_that_goes_takes_its_check_along(
    door: Door, sound: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    never_ending(door)
    leaves = asyncio.Event()
    task = asyncio.create_task(door.send_files("support", sound, leaves=leaves))
    await until_checking(1)
    leaves.set()
    assert (await task).status == 400
    assert checks() == []
    assert kept(tmp_path) == []


def open_and_deleted() -> int:
    """Files of no name that this process holds, as an upload's parts are on their way."""
    links = (Path("/proc/self/fd") / fd for fd in os.listdir("/proc/self/fd"))
    names = [os.readlink(link) for link in links if link.is_symlink()]
    return sum("(deleted)" in name for name in names)


async def test_what_came_of_a_broken_upload_is_gone_with_its_client(
    door: Door, sound: list[tuple[str, bytes]], tmp_path: Path
) -> None:
    before, leaves = open_and_deleted(), asyncio.Event()
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\n'
    sending = asyncio.create_task(
        door.call(
            "/v1/adapters/support/versions",
            headers=[(b"content-type", b"multipart/form-data; boundary=x")],
            pieces=[head % WEIGHTS.encode(), *[b"0" * 500_000] * 6],
            leaves=leaves,
            cut=True,
        )
    )
    async with asyncio.timeout(20):
        while open_and_deleted() == before:
            await asyncio.sleep(0.01)
    leaves.set()
    assert (await sending).status == 400
    assert open_and_deleted() == before
    assert kept(tmp_path) == []


async def test_uploads_keep_no_other_call_of_their_tenant_waiting(
    door: Door, sound: list[tuple[str, bytes]]
) -> None:
    never_ending(door)
    leaves = asyncio.Event()
    uploads = [
        asyncio.create_task(door.send_files("support", sound, leaves=leaves)) for _ in range(12)
    ]
    await until_checking(1)
    async with asyncio.timeout(10):
        assert (await door.call("/v1/feedback", method="GET")).status == 200
        assert (await door.call("/v1/adapters", method="GET")).status == 200
    leaves.set()
    assert {reply.status for reply in await asyncio.gather(*uploads)} == {400}


async def test_too_many_uploads_at_once_are_told_to_come_again(
    door: Door, sound: list[tuple[str, bytes]]
) -> None:
    never_ending(door)
    leaves = asyncio.Event()
    uploads = [
        asyncio.create_task(door.send_files("support", sound, leaves=leaves)) for _ in range(18)
    ]
    await until_checking(1)
    refused = await door.send_files("support", sound)
    assert (refused.status, refused.headers[b"retry-after"]) == (429, b"1")
    leaves.set()
    await asyncio.gather(*uploads)
