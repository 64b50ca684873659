"""What `POST /v1/feedback` says an item can teach: what the trainer will make of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.door import Door, open_door

from adapters.types import Adapter
from core.ids import CompletionId
from feedback.learning.judgement import anything_fits
from feedback.learning.reading import read_feedback
from feedback.types import Interaction

pytestmark = pytest.mark.slow


class World:
    """A server, one adapter, and answers that were really issued."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.tenant = door.tenant("acme")
        self.adapter: Adapter = door.adapter("acme", "support")
        self.made = 0

    def issue(self) -> CompletionId:
        return CompletionId("chatcmpl-" + self.door.runtime.signer.token(self.tenant))

    def answer(self, **changes: Any) -> CompletionId:
        self.made += 1
        given: dict[str, Any] = {
            "outcome": "completed",
            "adapter_id": self.adapter.id,
            "prompt": ({"role": "user", "content": f"Question {self.made}"},),
            "answers": (f"Answer {self.made}",),
            "finish_reason": "stop",
            "end_user": "ann",
        }
        answer = Interaction(
            id=self.issue(),
            tenant_id=self.tenant,
            endpoint="chat.completions",
            created_at_s=1.0,
            model_requested="support",
            model_answered="base",
            version=None,
            explored=False,
            **{**given, **changes},
        )
        self.door.runtime.interactions.append([answer])
        return answer.id

    async def told(self, about: CompletionId | None, **fields: Any) -> tuple[list[str], str | None]:
        body = fields if about is None else {"completion_id": about, **fields}
        async with self.door.client("acme") as client:
            response = await client.post("/v1/feedback", json=body)
        assert response.status_code in (200, 201), response.text
        said = response.json()
        assert said["note"].endswith(".")
        assert said["teaches"] or said["reason"]
        return said["teaches"], said["reason"]


@pytest_asyncio.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    door = await open_door(tmp_path, database_url)
    yield World(door)
    await door.runtime.stop()


async def test_an_item_is_told_what_it_teaches_or_why_it_teaches_nothing(world: World) -> None:
    answer = world.answer
    same = ({"role": "user", "content": "Which?"},)
    good, bad = answer(prompt=same), answer(prompt=same)
    picked = {"preferred": good, "rejected": [bad]}
    unequal = {"preferred": good, "rejected": [answer()]}
    early = {"preferred": good, "rejected": [world.issue()]}
    halves = {"preferred": good, "rejected": [bad, answer()]}
    calls = {"tool_calls": [{"id": "1"}]}
    expected: list[tuple[CompletionId | None, dict[str, Any], list[str], str | None]] = [
        (answer(), {"value": True}, ["label"], None),
        (answer(), {"value": "down", "comment": "Hm."}, ["label"], None),
        (answer(), {"correction": "Better."}, ["pair"], None),
        (answer(), {"value": False, "correction": "Better."}, ["label", "pair"], None),
        (None, {"comparison": picked}, ["pair"], None),
        (None, {"comparison": halves}, ["pair"], "prompts_differ"),
        (None, {"comparison": unequal}, [], "prompts_differ"),
        (None, {"comparison": early}, [], "awaiting_answer"),
        (world.issue(), {"value": True}, [], "awaiting_answer"),
        (world.issue(), {"comment": "Hm."}, [], "comment"),
        (answer(), {"comment": "Hm."}, [], "comment"),
        (answer(), {"name": "topic", "value": "hours"}, [], "comment"),
        (answer(adapter_id=None), {"value": True}, [], "base_answer"),
        (answer(outcome="failed"), {"value": True}, [], "not_completed"),
        (answer(outcome="cancelled"), {"correction": "B."}, [], "not_completed"),
        (answer(response=calls, answers=("",)), {"value": True}, [], "tool_calls"),
        (answer(answers=(" ",)), {"value": True}, [], "empty_answer"),
        (answer(), {"value": True, "choice_index": 1}, [], "no_such_choice"),
        (answer(answers=("Same.",)), {"correction": "Same."}, [], "unchanged_correction"),
        (answer(answers=("x" * 4_000_001,)), {"value": True}, [], "too_long"),
        (answer(), {"name": "helpful", "value": 4}, [], "too_few_scores"),
    ]
    for about, fields, teaches, reason in expected:
        for dry in (True, False):
            told = await world.told(about, **fields, dryrun=dry)
            assert told == (teaches, reason), (fields, told)


async def test_a_score_teaches_from_the_fourth_answer_on(world: World) -> None:
    told = [
        await world.told(world.answer(), name="helpful", value=n, end_user="ann") for n in range(5)
    ]
    assert told[:3] == [([], "too_few_scores")] * 3
    assert told[3:] == [(["score"], None)] * 2


async def test_another_voices_scores_do_not_help(world: World) -> None:
    for n in range(4):
        await world.told(world.answer(), name="helpful", value=n, end_user="bob")
    told = await world.told(world.answer(), name="helpful", value=3, end_user="ann")
    assert told == ([], "too_few_scores")


async def test_two_scores_to_one_prompt_are_a_pair(world: World) -> None:
    """As the trainer reads them too: both items are in an example, and none is left out."""
    prompt = ({"role": "user", "content": "Which?"},)
    first, second = world.answer(prompt=prompt), world.answer(prompt=prompt)
    assert await world.told(first, name="helpful", value=1) == ([], "too_few_scores")
    assert await world.told(second, name="helpful", value=5) == (["pair"], None)
    store = world.door.runtime.feedback
    learnt = read_feedback(store, world.adapter, anything_fits, newest=100)
    assert (len(learnt.pairs), learnt.dropped) == (1, {})


async def test_the_same_item_again_is_told_the_same(world: World) -> None:
    about = world.answer()
    told = [await world.told(about, id="mine", name="helpful", value=4) for _ in range(5)]
    assert told == [([], "too_few_scores")] * 5


async def test_a_list_of_feedback_tells_no_lessons(world: World) -> None:
    await world.told(world.answer(), value=True)
    async with world.door.client("acme") as client:
        (item,) = (await client.get("/v1/feedback")).json()["data"]
    assert item["value"] is True
    assert "teaches" not in item
