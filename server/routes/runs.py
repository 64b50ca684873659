"""GET /v1/runs: what was trained, why, how it was judged; POST starts one by hand."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from core.clock import iso
from core.errors import Conflict, Invalid
from core.ids import RunId
from feedback.runs import Run
from feedback.types import Page
from server.routes.by_hand import (
    json_object,
    key_with,
    limit_of,
    page,
    runtime_of,
    take,
    whole_number,
)

router = APIRouter()


@router.get("/v1/runs")
async def list_runs(request: Request) -> dict[str, Any]:
    """Newest first; filter: adapter; cursor: after."""
    key = key_with(request, "train")
    runtime = runtime_of(request)
    adapter = request.query_params.get("adapter")
    adapter_id = (
        (await asyncio.to_thread(runtime.registry.get, key.tenant_id, adapter)).id
        if adapter
        else None
    )

    after = request.query_params.get("after")

    def read() -> Page[Run]:
        return runtime.runs.list(
            key.tenant_id,
            adapter_id=adapter_id,
            after=RunId(after) if after else None,
            limit=limit_of(request),
        )

    found = await asyncio.to_thread(read)
    return page([run_json(run) for run in found.items], has_more=found.has_more)


@router.post("/v1/runs")
async def start_run(request: Request) -> JSONResponse:
    """Start a run now, whatever the triggers say. 409 while one is under way."""
    key = key_with(request, "train")
    runtime = runtime_of(request)
    body = await json_object(request)
    take(body, ("adapter",))
    if not isinstance(body.get("adapter"), str):
        raise Invalid("Name the adapter to train.", param="adapter")
    adapter = await asyncio.to_thread(runtime.registry.get, key.tenant_id, body["adapter"])

    def open_run() -> Run | None:
        news = runtime.feedback.news(adapter.id, runtime.runs.watermark(adapter.id))
        return runtime.runs.open(
            key.tenant_id,
            adapter.id,
            "asked for by hand",
            news.max_seq if news else runtime.runs.watermark(adapter.id),
            news.newest_at_s if news else None,
            adapter.live_version,
        )

    run = await asyncio.to_thread(open_run)
    if run is None:
        raise Conflict(f"A run of '{adapter.name}' is under way already; see GET /v1/runs.")
    return JSONResponse(run_json(run), status_code=202)


@router.get("/v1/runs/{run_id}")
async def get_run(run_id: str, request: Request) -> dict[str, Any]:
    """One run with its verdict. 404 if it is not the caller's."""
    return run_json(await _run(run_id, request))


@router.get("/v1/runs/{run_id}/events")
async def get_events(run_id: str, request: Request) -> dict[str, Any]:
    """Messages and metrics of a run, oldest first; `after` is the last event id seen."""
    run = await _run(run_id, request)
    after = whole_number(request.query_params.get("after", "0"))
    if after is None:
        raise Invalid("after must be an event id.", param="after")
    runtime = runtime_of(request)
    limit = limit_of(request, 200)
    events = await asyncio.to_thread(runtime.runs.events, run.id, after)
    data = [
        {
            "id": str(event.id),
            "object": "run.event",
            "created_at": iso(event.at_s),
            "type": event.type,
            "message": event.message,
            "data": dict(event.data),
        }
        for event in events[:limit]
    ]
    return page(data, has_more=len(events) > limit)


@router.post("/v1/runs/{run_id}/cancel")
async def cancel_run(run_id: str, request: Request) -> dict[str, Any]:
    """Ask a run to stop at its next step."""
    run = await _run(run_id, request)
    runtime = runtime_of(request)
    return run_json(await asyncio.to_thread(runtime.runs.request_cancel, run.tenant_id, run.id))


async def _run(run_id: str, request: Request) -> Run:
    key = key_with(request, "train")
    runtime = runtime_of(request)
    return await asyncio.to_thread(runtime.runs.get, key.tenant_id, RunId(run_id[:80]))


def run_json(run: Run) -> dict[str, Any]:
    """The run as HTTP shows it."""
    return {
        "id": run.id,
        "object": "run",
        "adapter_id": run.adapter_id,
        "state": run.state,
        "trigger": run.trigger,
        "created_at": iso(run.created_at_s),
        "finished_at": iso(run.finished_at_s),
        "snapshot": run.snapshot_digest,
        "live_before": run.live_before,
        "version": run.version,
        "verdict": asdict(run.verdict) if run.verdict else None,
        "error": run.error,
    }
