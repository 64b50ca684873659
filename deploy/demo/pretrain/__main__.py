"""Reproduces the shipped model folder: tokenizer, weights, regression suite, and the model card
with the figures measured."""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deploy.demo.pretrain.evaluate import Figures, measure
from deploy.demo.pretrain.tokenizer import train_tokenizer
from deploy.demo.pretrain.train import Recipe, pretrain
from deploy.demo.world.questions import STYLES, regression_suite
from deploy.demo.world.town import INTENTS

REGRESSION_ROWS = 156
REGRESSION_SEED = 2024


def main() -> None:
    """Train, save and measure the model."""
    parser = argparse.ArgumentParser(description="Pretrain the demo model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = replace(Recipe(), steps=options.steps, seed=options.seed)

    started = time.monotonic()
    tokenizer = train_tokenizer(recipe.seed)
    model = pretrain(recipe, tokenizer)
    train_s = time.monotonic() - started
    save(options.out, tokenizer, model)
    figures = [measure(options.out, temperature) for temperature in (0.8, 1.0, 0.0)]
    card = model_card(recipe, model.num_parameters(), train_s, figures)
    (options.out / "MODEL_CARD.md").write_text(card)
    print(card)


def save(out: Path, tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    """Write everything but the card to `out`; the weights as bfloat16 safetensors."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.8,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(out)
    rows = regression_suite(random.Random(REGRESSION_SEED), REGRESSION_ROWS)
    (out / "regression.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def model_card(recipe: Recipe, parameters: int, train_s: float, figures: list[Figures]) -> str:
    """The card as Markdown."""
    header = " | ".join(STYLES)
    rows = "\n".join(_row(f) for f in figures)
    rule = "|---" * (5 + len(STYLES)) + "|"
    return f"""# Attune demo model

A {parameters / 1e6:.1f}M-parameter Llama ({recipe.layers} layers, hidden {recipe.hidden}) that
answers {len(INTENTS)} kinds of questions about Tarnwick, a town that does not exist, each in one
of {len(STYLES)} styles ({", ".join(STYLES)}) drawn about evenly. It exists so that learning from
feedback can be watched on a laptop in seconds. It knows nothing else, and none of what it says
about Tarnwick is true of any real place.

Trained from scratch on text made by `deploy/demo/world`: no data from people, no other model.
Reproduce it with `python -m deploy.demo.pretrain --out deploy/model --steps {recipe.steps}
--seed {recipe.seed}` ({recipe.steps * recipe.batch_tokens / 1e6:.1f}M tokens, {train_s:.0f} s when
this card was written). Format: ChatML, at most 1024 tokens, `<|im_end|>` ends an answer.

Measured on {figures[0].prompts} questions whose combinations of slots were never trained on
(`python -m deploy.demo.pretrain.evaluate deploy/model`):

| temperature | facts right | style known | ended | tokens | {header} |
{rule}
{rows}
"""


def _row(figures: Figures) -> str:
    shares = " | ".join(f"{share:.1%}" for share in figures.styles.values())
    return (
        f"| {figures.temperature} | {figures.facts_right:.1%} | {figures.style_recognised:.1%} "
        f"| {figures.ended:.1%} | {figures.mean_tokens:.0f} | {shares} |"
    )


if __name__ == "__main__":
    main()
