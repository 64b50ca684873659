"""What is kept of an answer are the tokens the engine read and sampled, id by id.

Two oracles that are not ours: what vLLM shows its client (`return_token_ids`, and the messages of a
response), and for Anthropic's endpoint, which shows no ids, the same conversation as a chat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.shapes import CHAT, MESSAGES, SHAPES, Shown, ask
from support.stored import stored_answer
from support.tenant import Tenant

from core.errors import NotFound
from feedback.served import Served, unpack

Look = Callable[[str], Served]


@pytest.fixture
def served(tenant: Tenant) -> Iterator[Look]:
    """The tokens in the server's database of the answer of that id."""
    database = tenant.server.database()

    def look(completion_id: str) -> Served:
        tokens = stored_answer(database, completion_id).tokens
        assert tokens is not None
        return unpack(tokens)

    yield look
    database.dispose()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", [name for name, (path, _) in SHAPES.items() if path != MESSAGES])
def test_the_ids_kept_are_those_its_client_was_shown(
    tenant: Tenant, served: Look, name: str, stream: bool
) -> None:
    path, fields = SHAPES[name]
    with tenant.http as http:
        shown = ask(http, path, fields, stream=stream)
    check(served(shown.id), shown)


def check(kept: Served, shown: Shown) -> None:
    each = [list(kept.prompt_of(choice)) for choice in range(len(kept.choices))]
    assert each == (shown.prompts if len(shown.prompts) > 1 else shown.prompts * len(each))
    assert [list(choice.token_ids) for choice in kept.choices] == shown.choices
    assert sum(len(prompt) for prompt in kept.prompts) == shown.prompt_tokens
    assert sum(len(choice.token_ids) for choice in kept.choices) == shown.completion_tokens
    assert len(kept.choices) >= 1
    assert all(choice.token_ids for choice in kept.choices)
    assert [choice.finish_reason for choice in kept.choices] == shown.finish_reasons
