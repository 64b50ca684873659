"""Owns the training loop of the shipped model: its shape, its optimisers, its schedule, its loss.

Must not know: what the conversations are about, how the result is judged.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, linear
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from deploy.demo.pretrain.packing import Batch, batches
from deploy.demo.pretrain.tokenizer import MAX_TOKENS

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, given the world and the seed."""

    seed: int = 7
    steps: int = 520
    batch_tokens: int = 6144
    muon_lr: float = 0.02
    adam_lr: float = 4e-3
    warmup_steps: int = 20
    decay_share: float = 0.7  # the last share of the steps, over which the rate falls to zero
    layers: int = 4
    hidden: int = 256
    inner: int = 768
    log_every: int = 20


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of the recipe's shape, in float32."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def pretrain(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The model after `recipe.steps` steps; prints progress as it goes."""
    model = build_model(recipe, tokenizer)
    stream = batches(tokenizer, random.Random(recipe.seed), recipe.batch_tokens)
    optimizers = _optimizers(recipe, model)
    started, tokens = time.monotonic(), 0
    for step in range(recipe.steps):
        batch = next(stream)
        value = loss(model, batch)
        value.backward()
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate(recipe, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += batch.ids.numel()
        if step % recipe.log_every == 0 or step == recipe.steps - 1:
            _report(recipe, step, value.item(), tokens, time.monotonic() - started)
    return model


def loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy over the answer tokens, predicted from the token before."""
    output = model.model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        attention_mask=batch.blocks,
        use_cache=False,
    )
    weights = batch.weights[:, 1:]
    counted = weights > 0
    # The head runs only where there is a loss: about half of the tokens.
    logits = linear(output.last_hidden_state[:, :-1][counted], model.lm_head.weight)
    each = cross_entropy(logits, batch.ids[:, 1:][counted], reduction="none")
    return (each * weights[counted]).sum() / weights.sum()


def rate(recipe: Recipe, step: int) -> float:
    """The share of the peak learning rate at `step`: warm-up, plateau, linear decay to zero."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    left = (recipe.steps - step) / (recipe.steps * recipe.decay_share)
    return warm * min(1.0, left)


def _optimizers(
    recipe: Recipe, model: LlamaForCausalLM
) -> list[tuple[torch.optim.Optimizer, float]]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    embedding = [model.model.embed_tokens.weight]
    adam = torch.optim.AdamW(
        embedding + vectors, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0
    )
    return [(Muon(matrices, recipe.muon_lr), recipe.muon_lr), (adam, recipe.adam_lr)]


def _report(recipe: Recipe, step: int, value: float, tokens: int, elapsed_s: float) -> None:
    left_s = elapsed_s / (step + 1) * (recipe.steps - step - 1)
    print(
        f"step {step + 1:4}/{recipe.steps}  loss {value:.3f}  "
        f"{tokens / elapsed_s:5.0f} tok/s  {left_s:4.0f} s left",
        flush=True,
    )


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """`matrices` [n, rows, columns] with all singular values moved close to one."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for hidden matrices: momentum whose updates are made orthogonal, same-shaped ones
    together, in one bmm.

    Source: K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/ (update rule and Newton-Schulz coefficients).
    """

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Apply one update to every parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    shapes[param.shape].append(param)
            for shape, params in shapes.items():
                updates = orthogonalise(torch.stack([self._nesterov(p, group) for p in params]))
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for param, update in zip(params, updates, strict=True):
                    param.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-scale)

    def _nesterov(self, param: torch.Tensor, group: dict[str, float]) -> torch.Tensor:
        assert param.grad is not None
        buffer = self.state[param].setdefault("momentum", torch.zeros_like(param))
        buffer.lerp_(param.grad, 1 - group["momentum"])
        return param.grad.lerp(buffer, group["momentum"])
