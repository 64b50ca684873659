"""What a server says of its loads: failures, and that they are mended, nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.load_reports import LoadReports
from adapters.types import Version
from core.database import Database
from core.errors import Unavailable
from core.ids import AdapterId, Digest
from server.engine.load_reporter import LoadReporter

VERSION = Version(
    7, AdapterId("a"), 1, "live", Digest("0" * 64), 1, 4, ("q_proj",), "upload", None, None, 0.0, ""
)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


def said(reports: LoadReports) -> list[tuple[str, str]]:
    return [(report["state"], report["detail"]) for report in reports.of([VERSION.engine_id])]


async def test_a_failure_is_told_and_then_that_it_is_mended(sqlite: Database) -> None:
    reports = LoadReports(sqlite)
    report = LoadReporter(reports, "here")
    report(VERSION, None)  # worked at once: no write
    report(VERSION, Unavailable("the rank is too large"))
    await until(lambda: said(reports) == [("failed", "the rank is too large")])
    report(VERSION, None)
    await until(lambda: said(reports) == [("resident", "")])


async def test_a_report_that_cannot_be_written_is_logged_and_disturbs_no_load(
    sqlite: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite.write() as connection:
        connection.exec_driver_sql("DROP TABLE engine_reports")
    with caplog.at_level(logging.ERROR, "attune.server"):
        report = LoadReporter(LoadReports(sqlite), "here")
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        report(VERSION, None)  # worked at once: nothing to write
        await loop.run_in_executor(None, lambda: None)  # after whatever came before
        assert caplog.text == ""
        report(VERSION, Unavailable("no"))
        await until(lambda: "Cannot write a load report." in caplog.text)


async def test_a_failure_is_told_without_the_places_it_names(sqlite: Database) -> None:
    reports = LoadReports(sqlite)
    report = LoadReporter(reports, "here")
    report(VERSION, Unavailable("No file '/srv/attune/adapters/ab/adapter_model.safetensors'."))
    await until(lambda: said(reports) == [("failed", "No file '…/adapter_model.safetensors'.")])
