"""/v1/runs, /v1/exports and whatever other work there is: the routes of a kind, made from it.

Knows no kind: what is asked and shown are the kind's own models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import FileResponse
from pydantic import Field
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from core.bodies import Body, Resource, Time, says
from core.errors import BeyondEnd, Invalid
from core.identity.types import ApiKey
from core.work.kind import Kind, Listing
from core.work.types import Work
from server.routes.common import PageOf, RuntimeOf, key_with, new_router, page_of
from server.turns import Turns

_BYTES = "application/octet-stream"

Limit = Annotated[int, Query(ge=1, le=200), says("limit must be a whole number from 1 to 200.")]
After = Annotated[int, Query(ge=0, lt=10**18), says("after must be an event id.")]


class EventView(Resource):
    """One line of the log: a message for people or a set of figures."""

    object: str
    created_at: Time = Field(validation_alias="at_s")
    type: Literal["message", "metrics"]
    message: str
    data: dict[str, Any]


class _Blob(FileResponse):
    # Each piece is one trip to a thread: few large ones leave the event loop to the answers.
    chunk_size = 1 << 20

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        # Starlette 1.10 refuses in plain text.
        try:
            return super()._parse_range_header(http_range, file_size)
        except RangeNotSatisfiable as error:
            told = f"Range: the file ends after {file_size} bytes."
            raise BeyondEnd(told, param="range", size_bytes=file_size) from error
        except MalformedRangeHeader as error:
            raise Invalid("Range: send 'bytes=FIRST-LAST', or no range.", param="range") from error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, while the tenant is not sent too many others."""
        downloads: Turns = scope["app"].state.attune.downloads
        async with downloads.of(scope["state"]["attune_key"].tenant_id):
            await super().__call__(scope, receive, send)


def routes_of(kind: type[Kind[Any, Any]]) -> APIRouter:
    """Order, list, look, follow, cancel and, for kinds with files, download.

    Handlers are plain functions: FastAPI calls them in threads.
    """
    path = f"/v1/{kind.spec.plural}"
    one = f"{path}/{{work_id}}"
    routes = new_router(kind.spec.plural)
    reader, trainer = Depends(key_with(*kind.readers)), Depends(key_with("train"))

    def here(runtime: RuntimeOf) -> Kind[Any, Any]:
        return runtime.work[kind.spec.plural]

    at = Depends(here)

    def order(
        response: Response, order: Body, key: ApiKey = trainer, desk: Kind[Any, Any] = at
    ) -> Resource:
        """Queue a piece: 202, or 200 with one that answers it already."""
        work = desk.open(key.tenant_id, order)
        response.status_code = 202 if work.is_active else 200
        return desk.present(work)

    def list_(asked: Listing, key: ApiKey = reader, desk: Kind[Any, Any] = at) -> PageOf[Resource]:
        """Newest first; the next page is asked for with `after`."""
        where = desk.where(key.tenant_id, asked.model_dump(exclude={"after", "limit"}))
        found = desk.ledger.list(key.tenant_id, where, after=asked.after or None, limit=asked.limit)
        return page_of([desk.present(work) for work in found.items], has_more=found.has_more)

    def get(work_id: str, key: ApiKey = reader, desk: Kind[Any, Any] = at) -> Resource:
        """One piece. 404 if it is not the caller's."""
        return desk.present(desk.ledger.get(key.tenant_id, work_id))

    def events(
        work_id: str,
        after: After = 0,
        limit: Limit = 200,
        key: ApiKey = reader,
        desk: Kind[Any, Any] = at,
    ) -> PageOf[EventView]:
        """Messages and metrics, oldest first; `after` is the last event id seen."""
        work: Work[Any] = desk.ledger.get(key.tenant_id, work_id)
        found = desk.ledger.events(work.id, after, limit + 1)
        data = [
            EventView.of(event, id=str(event.id), object=f"{kind.spec.noun}.event")
            for event in found[:limit]
        ]
        return page_of(data, has_more=len(found) > limit)

    def cancel(work_id: str, key: ApiKey = trainer, desk: Kind[Any, Any] = at) -> Resource:
        """Ask a piece to stop. 409 once it has ended otherwise."""
        return desk.present(desk.ledger.cancel(key.tenant_id, work_id))

    def file(
        work_id: str, path: str, key: ApiKey = reader, desk: Kind[Any, Any] = at
    ) -> FileResponse:
        """One file's bytes; `Range` resumes a download, the ETag is the SHA-256.

        404 for a path that is not among the files, 409 until they are ready.
        """
        local, digest = desk.file(desk.ledger.get(key.tenant_id, work_id), path)
        etag = {"etag": f'"{digest}"'}
        # The size is asked for here: a file that is gone by now is an error of this route.
        return _Blob(local, stat_result=local.stat(), media_type=_BYTES, headers=etag)

    # FastAPI reads the models from here.
    order.__annotations__["order"] = kind.order
    list_.__annotations__["asked"] = Annotated[kind.listing, Query()]
    page: Any = PageOf
    answered: Any = {200: {"model": kind.view, "description": "One that answers it already."}}
    part: Any = {206: {"description": "The range that was asked for."}}
    routes.post(path, status_code=202, response_model=kind.view, responses=answered)(order)
    routes.get(path, response_model=page[kind.view])(list_)
    routes.get(one, response_model=kind.view)(get)
    routes.get(f"{one}/events")(events)
    routes.post(f"{one}/cancel", response_model=kind.view)(cancel)
    if kind.has_files:
        files = f"{one}/files/{{path:path}}"
        routes.get(files, response_class=_Blob, responses=part)(file)
        routes.head(files, include_in_schema=False)(file)
    return routes
