"""GET /health: whether this server takes requests, and with `?verbose` how its parts are.

For load balancers and strangers: no key, nothing of a tenant, and no look at the database.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from server.routes.common import RuntimeOf
from server.runtime import Runtime
from server.sync.vitals import TrainerSeen

router = APIRouter(tags=["health"])

_NO = ("0", "false", "no")


class TrainerHealth(BaseModel):
    """The trainers, all together: one that works is enough."""

    status: Literal["ok", "starting", "in trouble", "not seen", "unknown"]
    seen_s_ago: float | None = Field(description="Seconds since one last looked for work.")
    message: str | None = Field(description="What is wrong and what to do about it.")


class Health(BaseModel):
    """`ok` with 200; anything else with 503: send requests elsewhere."""

    status: Literal["ok", "draining", "engine dead"]


class VerboseHealth(Health):
    """A database or trainer in trouble leaves `status` as it is: answers are still given."""

    engine: Literal["ok", "dead"]
    database: Literal["ok", "unreachable"]
    trainer: TrainerHealth


@router.api_route("/ping", methods=["GET", "HEAD", "POST"], include_in_schema=False)
@router.api_route("/health", methods=["HEAD"], include_in_schema=False)
@router.get(
    "/health",
    response_model=VerboseHealth | Health,
    responses={503: {"model": VerboseHealth | Health, "description": "Send requests elsewhere."}},
    operation_id="health",
)
async def health(
    response: Response,
    runtime: RuntimeOf,
    verbose: Annotated[
        str | None, Query(description="Tell of the parts too: `/health?verbose`.")
    ] = None,
) -> Health:
    """Whether this server takes requests. 503 from the moment it is told to stop."""
    status = _status(runtime)
    response.status_code = 200 if status == "ok" else 503
    response.headers["cache-control"] = "no-store"
    if verbose is None or verbose.lower() in _NO:
        return Health(status=status)
    return VerboseHealth(
        status=status,
        engine="dead" if status == "engine dead" else "ok",
        database="ok" if runtime.vitals.database_ok else "unreachable",
        trainer=trainer_health(runtime.vitals.trainer),
    )


def trainer_health(seen: TrainerSeen) -> TrainerHealth:
    """What the server has seen of the trainers, as HTTP shows it."""
    return TrainerHealth(
        status=seen.status,
        seen_s_ago=None if seen.seen_s_ago is None else round(seen.seen_s_ago, 1),
        message=seen.message,
    )


def _status(runtime: Runtime) -> Literal["ok", "draining", "engine dead"]:
    if not runtime.engine.alive():
        return "engine dead"
    return "draining" if runtime.under_way.closed else "ok"
