"""What reaches a training is what was served, with the shipped model's own tokenizer and template.

The shapes are those whose prompt the template would make otherwise of what was recorded.
"""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import Invalid
from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from core.settings import SHIPPED_MODEL
from feedback.learning.datasets import freeze, from_bytes, to_bytes
from feedback.learning.judgement import Reader
from feedback.learning.pairing import agree, examples
from feedback.learning.texts import Texts
from feedback.served import Served, ServedChoice, pack
from feedback.types import Feedback, Interaction, Learnable
from trainer.methods import METHODS
from trainer.methods.loop import Training, train
from trainer.methods.method import Encoded, Row
from trainer.model.encoding import encode
from trainer.model.recorded import Encoder
from trainer.model.warm import WarmModel
from trainer.types import Hyperparameters

ACME, SUPPORT = TenantId("acme"), AdapterId("support")
ASKED = {"role": "user", "content": "Where is the library?"}
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "by the river"}


@pytest.fixture(scope="module")
def model() -> WarmModel:
    return WarmModel(str(SHIPPED_MODEL), threads=1)


def prompt_ids(model: WarmModel, *messages: Any, **options: Any) -> list[int]:
    options = {"add_generation_prompt": True, **options}
    whole = model.tokenizer.apply_chat_template(list(messages), return_dict=True, **options)
    return list(whole["input_ids"])


def sampled(model: WarmModel, text: str, *, ended: bool = True) -> list[int]:
    ids = list(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    return [*ids, model.tokenizer.eos_token_id] if ended else ids


def interaction(prompt: Any, *answers: str, served: Served | None, **changes: Any) -> Interaction:
    fields: dict[str, Any] = {
        "finish_reason": "stop", "tokens": None if served is None else pack(served), **changes,
    }  # fmt: skip
    return Interaction(
        *(CompletionId("c"), ACME, "chat.completions", 0.0, "completed", "support", "base"),
        *(SUPPORT, 1, False, prompt, answers),
        **fields,
    )


def learnt(model: WarmModel, about: Interaction, **said: Any) -> Learnable:
    texts = Texts(keep=True)
    reader = Reader(SUPPORT, texts, Encoder(model.tokenizer, 512))
    items = [
        Feedback(FeedbackId(f"f{n}"), ACME, 1.0, about.id, n, value=n == 0, **said)
        for n in range(len(about.answers))
    ]
    return examples(agree([reader.judgement(i, [about]) for i in items], now_s=9.0), texts)


def trained(model: WarmModel, found: Learnable, method: str = "kto") -> list[list[list[int]]]:
    """The ids that a training of it is given, through a snapshot as it is stored."""
    snapshot = freeze(SUPPORT, found.labels, found.pairs, found.dropped, 0.0)
    snapshot = from_bytes(to_bytes(snapshot))
    seen: list[list[list[int]]] = []

    class Watching(type(METHODS[method])):  # type: ignore[misc]
        def rows(self, examples: Encoded[Any], hyperparameters: Hyperparameters) -> list[Row]:
            seen.extend([*map(list, tokens)] for _, tokens in examples)
            raise Invalid("enough was seen")

    watching = Watching()
    training = Training(watching, watching.examples(snapshot), Hyperparameters(), SHIPPED_MODEL)
    with pytest.raises(Invalid, match="enough was seen"):
        train(model, training)
    return seen


BLOCKS = {"role": "system", "content": [{"type": "text", "text": t} for t in ("Be", "brief.")]}
PARTS = {"role": "user", "content": [{"type": "text", "text": t} for t in ("Where is", "it?")]}
BEGUN = {"role": "assistant", "content": "The library"}
SHAPES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], dict[str, Any]]] = {
    # what was recorded, what the engine rendered, with which options
    "tools": ((ASKED,), (ASKED,), {"tools": TOOLS}),
    "tool results": ((ASKED, CALLING, RESULT), (ASKED, CALLING, RESULT), {"tools": TOOLS}),
    "blocks": ((BLOCKS, ASKED), ({"role": "system", "content": "Be\nbrief."}, ASKED), {}),
    "parts": ((PARTS,), ({"role": "user", "content": "Where is it?"},), {}),
    "developer": (({"role": "developer", "content": "Be brief."}, ASKED),
                  ({"role": "system", "content": "Be brief."}, ASKED), {}),
    "no system prompt recorded": ((ASKED,), ({"role": "system", "content": "Hi."}, ASKED), {}),
    "prefill": ((ASKED, BEGUN), (ASKED, BEGUN),
                {"continue_final_message": True, "add_generation_prompt": False}),
    "no generation prompt": ((ASKED,), (ASKED,), {"add_generation_prompt": False}),
    "turns before": ((ASKED,), (ASKED, {"role": "assistant", "content": "There."}, ASKED), {}),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_is_trained_as_it_was_read(model: WarmModel, shape: str) -> None:
    recorded, rendered, options = SHAPES[shape]
    read = prompt_ids(model, *rendered, **options)
    own = [sampled(model, "By the river."), sampled(model, "Nowhere, I think.")]
    choices = tuple(ServedChoice(0, tuple(ids), "stop") for ids in own)
    served = Served((tuple(read),), choices)
    texts = ("By the river.", "Nowhere, I think.")
    found = learnt(model, interaction(recorded, *texts, served=served))
    assert trained(model, found) == [[read, own[0]], [read, own[1]]]
    assert trained(model, found, "dpo") == [[read, *own]]
    if shape not in ("tool results", "blocks"):  # those the template cannot be given at all
        rebuilt = encode(model.tokenizer, found.labels[0].prompt, texts[0])
        assert [*map(list, rebuilt)] != [read, own[0]]


THOUGHT = "<think>It is near the water.</think>\n\n"


@pytest.mark.parametrize(
    ("text", "own", "ended"),
    [
        ("By the", "By the", False),  # cut
        ("By the river", "By the river. STOP", False),  # a stop string, which the text is without
        ("By the river.", THOUGHT + "By the river.", True),
        ("", THOUGHT, False),
        ("", '<tool_call>{"name": "look_up", "arguments": {}}</tool_call>', True),
        ("", "\n\n\n\n", False),
    ],
)
def test_an_answer_is_trained_as_it_was_sampled(
    model: WarmModel, text: str, own: str, ended: bool
) -> None:
    read, ids = prompt_ids(model, ASKED), sampled(model, own, ended=ended)
    served = Served((tuple(read),), (ServedChoice(0, tuple(ids), "stop"),))
    found = learnt(model, interaction((ASKED,), text, served=served))
    assert trained(model, found) == [[read, ids]]


def test_batched_and_token_id_prompts_are_trained_each_as_it_was_read(model: WarmModel) -> None:
    reads = [sampled(model, "The library is", ended=False), [5, 6, 7]]
    own = [sampled(model, text) for text in (" here", " there", " up", " down")]
    choices = tuple(ServedChoice(n // 2, tuple(ids), "stop") for n, ids in enumerate(own))
    served = Served(tuple(map(tuple, reads)), choices)
    texts = (" here", " there", " up", " down")
    batch = interaction('["The library is",[5,6,7]]', *texts, served=served, prompt_tokens=99)
    assert sorted(trained(model, learnt(model, batch))) == sorted(
        [reads[n // 2], ids] for n, ids in enumerate(own)
    )


def test_a_correction_is_closed_as_the_template_closes_a_turn(model: WarmModel) -> None:
    read, ids = prompt_ids(model, ASKED, tools=TOOLS), sampled(model, "Nowhere.")
    served = Served((tuple(read),), (ServedChoice(0, tuple(ids), "stop"),))
    about = interaction((ASKED,), "Nowhere.", served=served)
    found = learnt(model, about, correction="By the river.")
    written = encode(model.tokenizer, (ASKED,), "By the river.")[1]
    assert written[-2:] == [model.tokenizer.eos_token_id, *sampled(model, "\n", ended=False)]
    assert trained(model, found, "dpo") == [[read, written, ids]]
    assert trained(model, found, "sft") == [[read, written]]


def test_of_a_plain_chat_without_ids_the_rows_are_those_of_the_template(model: WarmModel) -> None:
    """As they were before ids were kept: only what was counted must agree."""
    said = ({"role": "system", "content": "Be brief."}, ASKED)
    read, ids = prompt_ids(model, *said), sampled(model, "By the river.")
    counts = {"prompt_tokens": len(read), "completion_tokens": len(ids)}
    row = [*map(list, encode(model.tokenizer, said, "By the river."))]
    assert row == [read, [*ids, *sampled(model, "\n", ended=False)]]
    for known in ({}, counts, {**counts, "prompt_tokens": None}):
        about = interaction(said, "By the river.", served=None, **known)
        assert trained(model, learnt(model, about)) == [row]
    tools = {**counts, "prompt_tokens": len(read) + 40}
    cut = {**counts, "completion_tokens": len(ids) - 1}
    for wrong in (tools, cut):
        about = interaction(said, "By the river.", served=None, **wrong)
        assert learnt(model, about).dropped == {"not_as_served": 1}
    about = interaction(said, "By the river.", served=None, **cut, finish_reason="length")
    assert trained(model, learnt(model, about)) == [[read, ids[:-1]]]
