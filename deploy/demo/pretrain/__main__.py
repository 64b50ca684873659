"""Reproduces the shipped model folder: tokenizer, weights, regression suite, model card."""

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deploy.demo.pretrain.card import model_card
from deploy.demo.pretrain.evaluate import measure
from deploy.demo.pretrain.tokenizer import train_tokenizer
from deploy.demo.pretrain.train import Recipe, pretrain
from deploy.demo.world import regression_suite

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


if __name__ == "__main__":
    main()
