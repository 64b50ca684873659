"""Exceptions nobody foresaw: the log says what happened, the client only that something did."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import IntegrityError
from starlette.responses import JSONResponse
from support.asgi import Door

from core.errors import AttuneError
from server.errors import error_response, unforeseen
from server.routes.common import new_router

SECRET = "INSERT INTO api_keys VALUES ('sk-at-secret') -- /srv/attune/home"
FAULTS = [
    RuntimeError(SECRET),
    ValueError(SECRET),  # vLLM's own handlers would tell these, as 400
    TypeError(SECRET),
    NotImplementedError(SECRET),
    IntegrityError(SECRET, {}, Exception(SECRET)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_fault_in_a_route_is_a_500_whose_words_are_in_the_log_alone(
    door: Door, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise fault

    door.runtime.feedback.list = broken  # type: ignore[method-assign]
    reply = await door.call("/v1/feedback", method="GET", body={})
    assert (reply.status, reply.error["type"], reply.error["code"]) == (
        500,
        "server_error",
        "internal_error",
    )
    assert not re.search(r"INSERT|secret|/srv|Error\(", reply.body.decode())
    number = re.search(r"err_\w+", reply.error["message"])
    assert number is not None
    assert number[0] in caplog.text
    assert SECRET in caplog.text


async def test_it_is_so_where_other_handlers_stand_ready(door: Door) -> None:
    """As vLLM's do, in the app our routes are put into."""
    app = FastAPI()

    async def tell(_: object, error: Exception) -> JSONResponse:
        return JSONResponse({"told": str(error)}, 400)

    app.add_exception_handler(ValueError, tell)
    router: APIRouter = new_router("test")

    @router.get("/v1/feedback")
    def broken() -> None:
        raise ValueError(SECRET)

    @app.get("/v1/adapters")
    def theirs() -> None:
        raise ValueError("max_tokens is too large")

    app.include_router(router)
    door.vllm.ours = app

    async def ours(_: object, error: Exception) -> object:
        assert isinstance(error, AttuneError)
        return error_response(error)

    app.add_exception_handler(AttuneError, ours)  # type: ignore[arg-type]
    assert (await door.call("/v1/feedback", method="GET", body={})).status == 500
    assert b"too large" in (await door.call("/v1/adapters", method="GET", body={})).body


async def test_a_fault_of_the_app_behind_the_door_is_told_no_better(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(SECRET)

    door.gateway._app = broken
    reply = await door.chat()
    assert reply.status == 500
    assert b"INSERT" not in reply.body
    assert SECRET in caplog.text


@pytest.mark.parametrize("path", ["/v1/feedback", "/api/public/scores"])
async def test_the_envelope_is_the_listeners_own(path: str) -> None:
    logging.disable()
    told = error_response(unforeseen(RuntimeError(SECRET)), path)
    logging.disable(logging.NOTSET)
    assert told.status_code == 500
    assert b"INSERT" not in told.body
    assert (b'"type"' in told.body) == (path == "/v1/feedback")


async def test_a_disk_that_is_full_refuses_an_upload_for_now(
    door: Door, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here the folder of artifacts is not there to be written to."""
    door.runtime.registry.create(door.tenant.id, "support")
    artifacts = Path(door.runtime.settings.resolved_artifacts_url())
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.write_text("in the way")
    reply = await door.upload("support", tmp_path / "adapter")
    assert (reply.status, reply.error["code"]) == (503, "store_unavailable")
    assert reply.headers[b"retry-after"] == b"1"
    assert str(tmp_path) not in reply.body.decode()
    assert "Trouble with the server's storage" in caplog.text
