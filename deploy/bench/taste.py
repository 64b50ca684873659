"""Whether a learned taste survives export: the same random draws, of the source and of the export.

Owns a small training with a simulated user, and sampling both sides with common random numbers:
token t of question q is the same quantile of either distribution, so that what differs between
the answers is the export and not the dice. Must not know how exports are made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.settings import Settings
from deploy.demo.users import MAX_TOKENS, TEMPERATURE, Answered, likes
from deploy.demo.world.questions import Question, ask
from feedback.token_ids import pack_ids
from feedback.types import Label
from trainer.methods import METHODS
from trainer.model.encoding import encode_prompt
from trainer.runs.plan import hyperparameters

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

Choose = Callable[[np.ndarray, int], int | None]
"""From logits (vocabulary,) and the number of the token to the token, or None at the end."""
Step = Callable[[Sequence[int], Choose], list[int]]
"""Generates after a prompt: the tokens `Choose` picks."""

TASTE = "pirate"
_UPS, _DOWNS = 16, 48


def learn_taste(model: WarmModel, out: Path) -> Path:
    """Train an adapter as `attune demo` does: thumbs of a user who likes one style."""
    from trainer.methods.loop import Training, train
    from trainer.model.sampling import answers

    rng = random.Random(0)
    questions = [ask(rng, "train") for _ in range(400)]
    prompts = [({"role": "user", "content": question.text},) for question in questions]
    asked = [encode_prompt(model.tokenizer, prompt) for prompt in prompts]
    given = answers(model, asked, None, TEMPERATURE, MAX_TOKENS, seed=0)
    labels = [
        Label(
            prompt,
            answer.text,
            likes(Answered(question, "", answer.text, ""), TASTE),
            None,
            None,
            0.0,
            (),
            (),
            (pack_ids(ids), pack_ids(answer.ids)),
        )
        for prompt, ids, question, answer in zip(prompts, asked, questions, given, strict=True)
    ]
    ups = [label for label in labels if label.desirable][:_UPS]
    downs = [label for label in labels if not label.desirable][:_DOWNS]
    training = Training(
        method=METHODS["kto"],
        examples=[*ups, *downs],
        hyperparameters=hyperparameters(Settings(), model.parameters),
        out=out,
    )
    return train(model, training).path


def pick(logits: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """Tokens (n,) at the quantiles `draw` (n,) of softmax(logits (n, vocabulary) / TEMPERATURE)."""
    scaled = logits.astype(np.float64) / TEMPERATURE
    weights = np.exp(scaled - scaled.max(-1, keepdims=True)).cumsum(-1)
    below = weights < (draw * weights[:, -1])[:, None]
    tokens: np.ndarray = below.sum(-1)
    return tokens


def source_step(adapted: Any) -> Step:
    """How transformers and PEFT generate, one token at a time, as an export does."""
    import torch

    def step(prompt: Sequence[int], choose: Choose) -> list[int]:
        tokens: list[int] = []
        ids, cache = list(prompt), None
        while True:
            output = adapted(torch.tensor([ids]), past_key_values=cache, use_cache=True)
            token = choose(output.logits[0, -1].float().numpy(), len(tokens))
            if token is None:
                return tokens
            tokens.append(token)
            ids, cache = [token], output.past_key_values

    return step


def answers_with(step: Step, tokenizer: Any, questions: Sequence[Question]) -> list[Answered]:
    """What `step` answers to each question, with draws that are the same every time."""
    end = int(tokenizer.eos_token_id)
    draws = np.random.default_rng(2).random((len(questions), MAX_TOKENS))
    given = []
    for question, row in zip(questions, draws, strict=True):

        def choose(logits: np.ndarray, at: int, row: np.ndarray = row) -> int | None:
            if at == MAX_TOKENS:
                return None
            token = int(pick(logits[None], row[at : at + 1])[0])
            return None if token == end else token

        ids = step(encode_prompt(tokenizer, ({"role": "user", "content": question.text},)), choose)
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        given.append(Answered(question, "", text, ""))
    return given
