"""Owns the figures of a model folder: facts, style mix and endings on unseen questions.

`python -m deploy.demo.pretrain.evaluate deploy/model [--json]`. Must not know: how it was trained.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from deploy.demo.world.questions import (
    LONGEST_ANSWER_TOKENS,
    STYLES,
    facts_right,
    held_out_questions,
    style_of,
)

BATCH = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares between 0 and 1 over `prompts` answers; `temperature` 0 means greedy."""

    temperature: float
    prompts: int
    facts_right: float
    style_recognised: float
    ended: float
    mean_tokens: float
    styles: dict[str, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer without its end token; `ended` says whether it came to one."""

    text: str
    tokens: int
    ended: bool


def generate(folder: Path, prompts: list[str], temperature: float, seed: int) -> list[Answer]:
    """One answer for each prompt, sampled by transformers in float32 from `folder`'s weights."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(seed)
    sampling = (
        {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    )
    answers: list[Answer] = []
    for first in range(0, len(prompts), BATCH):
        chats = [[{"role": "user", "content": text}] for text in prompts[first : first + BATCH]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=LONGEST_ANSWER_TOKENS, **sampling)
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            ended = tokenizer.eos_token_id in row
            ids = row[: row.index(tokenizer.eos_token_id)] if ended else row
            answers.append(Answer(tokenizer.decode(ids), len(ids), ended))
    return answers


def measure(folder: Path, temperature: float, prompts: int = 400, seed: int = 11) -> Figures:
    """The figures of the model in `folder` on `prompts` held-out questions."""
    questions = held_out_questions(prompts, seed)
    answers = generate(folder, [q.text for q in questions], temperature, seed)
    styles = [style_of(a.text) for a in answers]
    counts = Counter(styles)
    right = [facts_right(q, a.text) for q, a in zip(questions, answers, strict=True)]
    return Figures(
        temperature=temperature,
        prompts=prompts,
        facts_right=sum(right) / prompts,
        style_recognised=1 - counts[None] / prompts,
        ended=sum(a.ended for a in answers) / prompts,
        mean_tokens=sum(a.tokens for a in answers) / prompts,
        styles={style: counts[style] / prompts for style in STYLES},
    )


def main() -> None:
    """Print the figures at temperatures 0.8, 1 and 0."""
    parser = argparse.ArgumentParser(description="Measure a demo model on unseen questions.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = [measure(options.folder, t, options.prompts) for t in (0.8, 1.0, 0.0)]
    if options.json:
        print(json.dumps([asdict(f) for f in figures], indent=2))
        return
    for row in figures:
        mix = "  ".join(f"{name} {share:.1%}" for name, share in row.styles.items())
        print(
            f"T={row.temperature}  facts {row.facts_right:.1%}  "
            f"styles known {row.style_recognised:.1%}  ended {row.ended:.1%}  "
            f"{row.mean_tokens:.0f} tokens  {mix}"
        )


if __name__ == "__main__":
    main()
