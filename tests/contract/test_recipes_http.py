"""An adapter's recipe over HTTP, on both databases: taken, kept, shown, or refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest
import pytest_asyncio
from support.door import Door, open_door

from adapters.recipe import Recipe
from core.settings import Settings
from core.work.ledger import Ledger
from trainer.runs.recipes import as_used
from trainer.types import RUN, RunFacts


@pytest_asyncio.fixture
async def door(tmp_path: Path, database_url: str) -> AsyncIterator[Door]:
    opened = await open_door(tmp_path, database_url)
    yield opened
    await opened.runtime.stop()


async def test_a_recipe_is_taken_kept_and_shown(door: Door) -> None:
    async with door.client("acme", "inference", "train") as client:
        recipe = {"learning_rate": [1e-4, 3e-4], "beta": 1, "target_modules": ["q_proj"]}
        body = {"name": "support", "learning": {"recipe": recipe}}
        made = await client.post("/v1/adapters", json=body)
        assert made.status_code == 201, made.text
        changed = await client.patch(
            "/v1/adapters/support", json={"learning": {"recipe": {"beta": None, "max_steps": 9}}}
        )
        assert changed.status_code == 200, changed.text
        shown = (await client.get("/v1/adapters/support")).json()["learning"]["recipe"]
    expected = recipe | {"beta": None, "max_steps": 9}
    assert {name: shown[name] for name in expected} == expected
    (kept,) = door.runtime.registry.adapters(door.tenant("acme"))
    assert kept.learning.recipe == Recipe(
        learning_rate=(1e-4, 3e-4), max_steps=9, target_modules=("q_proj",)
    )


@pytest.mark.parametrize(
    ("recipe", "param", "told"),
    [
        ({"learning_rate": 5}, "learning_rate", "a number over 0 and at most 1"),
        ({"rank": 17}, "rank", "at most 16 here (ATTUNE_MAX_LORA_RANK)"),
        ({"target_modules": ["v_proj"]}, "target_modules", "it has q_proj."),
        ({"steps": 5}, "steps", "did you mean 'max_steps'?"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    door: Door, recipe: dict[str, object], param: str, told: str
) -> None:
    door.adapter("acme", "support", recipe=Recipe(beta=0.5))
    async with door.client("acme") as client:
        refused = await client.patch(
            "/v1/adapters/support", json={"learning": {"recipe": {"beta": 2.0} | recipe}}
        )
        made = await client.post(
            "/v1/adapters", json={"name": "other", "learning": {"recipe": recipe}}
        )
    for answer in (refused, made):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == f"learning.recipe.{param}"
        assert told in error["message"]
    (kept,) = door.runtime.registry.adapters(door.tenant("acme"))
    assert kept.learning.recipe == Recipe(beta=0.5)


async def test_a_run_shows_the_recipe_it_is_trained_by(door: Door) -> None:
    adapter = door.adapter("acme", "support")
    runs = Ledger(door.runtime.database, RUN)
    facts = RunFacts("asked for by hand", 0, None, None)
    run, _ = runs.open(adapter.tenant_id, adapter.id, facts, adapter_id=adapter.id)
    used = as_used(Settings(), 3_600_000, Recipe(learning_rate=(1e-4, 3e-4)), completions=77)
    runs.advance(run.id, "snapshot", recipe=used)
    assert runs.find(run.id).facts.recipe == used
    async with door.client("acme", "train") as client:
        shown = (await client.get(f"/v1/runs/{run.id}")).json()["recipe"]
    assert shown["learning_rate"] == [1e-4, 3e-4]
    assert shown == asdict(used) | {
        "learning_rate": [1e-4, 3e-4],
        "target_modules": list(used.target_modules or ()),
    }
