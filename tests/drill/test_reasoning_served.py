"""Of a model that reasons before it answers, all that was sampled is kept: its reasoning, the token
that ends it, and the answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shapes import AS_CHATS, CHAT, MESSAGES, SHAPES, ask, asked
from support.stored import stored_answer
from support.tenant import Tenant
from tokenizers import Tokenizer

from core.settings import SHIPPED_MODEL
from deploy.processes.server_process import ServerProcess
from feedback.served import unpack

pytestmark = pytest.mark.drill

NAMES = ("chat", "chat, system", "chat, n", "chat, cut", "chat, ended", "response", "message")


@pytest.fixture(scope="module")
def reasoner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """The shipped model, whose word " boat" is called the end of its reasoning."""
    model = tmp_path_factory.mktemp("reasoner") / "model"
    shutil.copytree(SHIPPED_MODEL, model)
    rename(model / "tokenizer.json", {"Ġsad": "<think>", "Ġboat": "</think>"})
    server = ServerProcess(
        tmp_path_factory.mktemp("home"),
        command=("-m", "deploy.cli.app", "serve", "--reasoning-parser", "deepseek_r1"),
        environment={"ATTUNE_MODEL": str(model)},
    )
    server.start()
    yield Tenant(server, "thinkers", server.key("thinkers"))
    server.stop()


def rename(file: Path, words: dict[str, str]) -> None:
    """Call tokens by other names: text no longer becomes them, the model says them as before."""
    tokenizer = json.loads(file.read_text())
    model = tokenizer["model"]
    model["merges"] = [pair for pair in model["merges"] if not {"".join(pair), *pair} & {*words}]
    for word, name in words.items():
        model["vocab"][name] = model["vocab"].pop(word)
        tokenizer["added_tokens"].append(
            {
                **tokenizer["added_tokens"][0],
                "id": model["vocab"][name],
                "content": name,
                "special": False,
            }
        )
    file.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_reasoning_and_answer_are_kept_as_sampled(
    reasoner: Tenant, name: str, stream: bool
) -> None:
    path, fields = SHAPES[name]
    with reasoner.http as http:
        shown = ask(http, path, fields, stream=stream)
        if path == MESSAGES:  # greedy: the same prompt has one answer
            twin = ask(http, CHAT, AS_CHATS[name], stream=False)
            shown.prompts, shown.choices = twin.prompts, twin.choices
    database = reasoner.server.database()
    tokens = stored_answer(database, shown.id).tokens
    database.dispose()
    assert tokens is not None
    served = unpack(tokens)
    assert [list(prompt) for prompt in served.prompts] == shown.prompts[:1]
    assert [list(choice.token_ids) for choice in served.choices] == shown.choices
    assert sum(map(len, shown.choices)) == shown.completion_tokens


def test_the_token_between_reasoning_and_answer_is_kept(reasoner: Tenant) -> None:
    """Some of many answers have both parts; in neither the client sees the token between them."""
    fields = {**SHAPES["chat, ended"][1], "n": 24, "temperature": 1.0, "seed": 1}
    with reasoner.http as http:
        answer = http.post(CHAT, json=asked(CHAT, fields, stream=False))
    database = reasoner.server.database()
    served = unpack(stored_answer(database, answer.headers["x-request-id"]).tokens or b"")
    database.dispose()
    between = Tokenizer.from_file(str(SHIPPED_MODEL / "tokenizer.json")).token_to_id("Ġboat")
    both = [
        choice["index"]
        for choice in answer.json()["choices"]
        if choice["message"]["reasoning"] and choice["message"]["content"]
    ]
    assert both
    for index in both:
        assert between in served.choices[index].token_ids
        assert "boat" not in str(answer.json()["choices"][index]["message"])
