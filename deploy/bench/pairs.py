"""Human pairs, learnt by plain TRL and by the trainer here: who agrees with people held out.

Owns the split by prompt and the order of what is measured.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from core.errors import Invalid
from deploy.bench.preferences.accuracy import Scored, accuracies, differences, interval
from deploy.bench.preferences.reading import HumanPair, read_pairs
from deploy.bench.preferences.training import Trained, ours, plain_trl
from deploy.bench.real_model import require_model
from deploy.bench.results import figure_table
from deploy.bench.setting import progress
from trainer.model.encoding import Tokens, encode

if TYPE_CHECKING:
    from trainer.model.warm import WarmModel

_METHODS = {"trl": plain_trl, "ours": ours}


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A pair that the model can be trained on, and the ids of its prompt and both answers."""

    pair: HumanPair
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs to learn from and pairs held out; no prompt is on both sides."""

    train: tuple[Fit, ...]
    held_out: tuple[Fit, ...]


def measure(
    *,
    file: Path,
    model: Path,
    seeds: int = 2,
    limit: int = 0,
    held_out: float = 0.25,
    passes: int = 1,
    longest: int = 512,
) -> dict[str, Any]:
    """Both on the same pairs of `file` under every seed; `limit` pairs at most, 0 for all.

    Pairs of more than `longest` tokens with their prompt are left out and counted. Raises Invalid
    for a file or model that cannot be used and for fewer than two prompts.
    """
    require_model(model)
    read, left_out = read_pairs(file)
    from trainer.model.warm import WarmModel

    warm = WarmModel(str(model))
    fitting, unfit = _fitting(warm, read, longest)
    left_out |= unfit
    chosen = _some(fitting, limit)
    runs, scored = [], {name: list[Scored]() for name in _METHODS}
    for seed in range(seeds):
        split = split_by_prompt(chosen, held_out, seed)
        run = _measured(warm, split, passes, longest, seed, scored)
        runs.append(run)
        progress.print(_told(run))
    return {
        "pairs": len(chosen),
        "prompts": len({one.pair.key for one in chosen}),
        "left_out": left_out,
        "longer_preferred": _longer(chosen),
        **{name: _together(name, scored[name], runs) for name in _METHODS},
        "difference": differences(scored["ours"], scored["trl"]),
        "runs": runs,
    }


def split_by_prompt(pairs: Sequence[Fit], share: float, seed: int) -> Split:
    """`share` of the prompts held out, one at least, by a hash of prompt and seed.

    Raises Invalid where there are fewer than two prompts.
    """
    keys = sorted(
        {one.pair.key for one in pairs},
        key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest(),
    )
    if len(keys) < 2:
        raise Invalid(
            f"Pairs of two prompts are needed to hold one out, and {len(keys)} can be used: give "
            "more pairs, or a larger --longest if theirs are longer."
        )
    apart = {*keys[: min(len(keys) - 1, max(1, round(share * len(keys))))]}
    return Split(
        tuple(one for one in pairs if one.pair.key not in apart),
        tuple(one for one in pairs if one.pair.key in apart),
    )


def table(figures: Mapping[str, Any]) -> Table:
    """A row for each way to learn and seed, then one for all seeds together."""
    rows = []
    for name in _METHODS:
        for run in figures["runs"]:
            rows.append([name, str(run["seed"]), *_shown(run[name])])
        rows.append([name, "all", *_shown(figures[name])])
    better = figures["difference"]
    rows.append(["ours - trl", "all", *(_points(better[key]) for key in _ACCURACIES), "", ""])
    caption = (
        f"{figures['pairs']} pairs of {figures['prompts']} prompts, left out: "
        f"{figures['left_out'] or 'none'}; people preferred the longer answer in "
        f"{figures['longer_preferred']:.0%}; accuracy of the implicit reward on held-out prompts "
        "with its 95 % interval over prompts, by answer and by token; margin in nats"
    )
    head = ["", "seed", "by answer", "by token", "margin", "s"]
    return figure_table("Who agrees with people", head, rows, caption)


_ACCURACIES = ("accuracy", "accuracy_per_token")


def _shown(figures: Mapping[str, Any]) -> list[str]:
    shares = [_share(figures[key]) for key in _ACCURACIES]
    return [*shares, f"{figures['margin']['mean']:+.2f}", f"{figures['train_s']:.0f}"]


def _share(of: Mapping[str, float]) -> str:
    return f"{of['mean']:.1%} ({of['low']:.0%}-{of['high']:.0%})"


def _points(of: Mapping[str, float]) -> str:
    return f"{100 * of['mean']:+.1f} ({100 * of['low']:+.0f} to {100 * of['high']:+.0f})"


def _fitting(
    model: WarmModel, pairs: Sequence[HumanPair], longest: int
) -> tuple[list[Fit], dict[str, int]]:
    """The pairs with their token ids, and how many were refused or too long."""
    found: list[Fit] = []
    refused = too_long = 0
    for pair in pairs:
        try:
            tokens = encode(model.tokenizer, pair.prompt, pair.chosen, pair.rejected)
        except Invalid:
            refused += 1
            continue
        if len(tokens[0]) + max(map(len, tokens[1:])) > longest:
            too_long += 1
        elif tokens[1] and tokens[2]:
            found.append(Fit(pair, tokens))
    counted = {"refused_by_template": refused, "too_long": too_long}
    return found, {reason: count for reason, count in counted.items() if count}


def _some(pairs: Sequence[Fit], limit: int) -> list[Fit]:
    return random.Random(0).sample(list(pairs), limit) if 0 < limit < len(pairs) else list(pairs)


def _measured(
    model: WarmModel,
    split: Split,
    passes: int,
    longest: int,
    seed: int,
    scored: Mapping[str, list[Scored]],
) -> dict[str, Any]:
    progress.print(
        f"seed {seed}: {len(split.train)} pairs to learn from, {len(split.held_out)} held out …"
    )
    base = _logprobs(model, split.held_out, None)
    learnt = [one.pair for one in split.train]
    run: dict[str, Any] = {
        "seed": seed,
        "train_pairs": len(split.train),
        "train_tokens": sum(_tokens(one) for one in split.train),
        "held_out_pairs": len(split.held_out),
        "held_out_prompts": len({one.pair.key for one in split.held_out}),
        "likelihood": interval(
            [one.pair.key for one in split.held_out], [float(a > b) for a, b in base]
        ),
    }
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as scratch:
        for name, train in _METHODS.items():
            out = Path(scratch) / name
            made = train(model, learnt, out, passes=passes, longest=longest, seed=seed)
            after = _logprobs(model, split.held_out, made.folder)
            found = [
                Scored(
                    one.pair.key,
                    new[0] - old[0],
                    new[1] - old[1],
                    len(one.tokens[1]),
                    len(one.tokens[2]),
                )
                for one, new, old in zip(split.held_out, after, base, strict=True)
            ]
            scored[name].extend(found)
            run[name] = {**accuracies(found), **_cost(made)}
    return run


def _logprobs(
    model: WarmModel, pairs: Sequence[Fit], adapter: Path | None
) -> list[tuple[float, float]]:
    """log p of the chosen and of the rejected answer, in nats."""
    from trainer.model.scoring import logprobs

    items = [(one.tokens[0], answer) for one in pairs for answer in one.tokens[1:]]
    found = iter(logprobs(model, items, adapter))
    return list(zip(found, found, strict=True))


def _cost(made: Trained) -> dict[str, Any]:
    # As texts: figures are rounded to three decimals, a learning rate must not be.
    told = {name: f"{of:g}" if isinstance(of, float) else of for name, of in made.settings.items()}
    return {**made.result, "settings": told}


def _together(
    name: str, scored: Sequence[Scored], runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    seconds = sum(run[name]["train_s"] for run in runs)
    return {**accuracies(scored), "train_s": seconds, "settings": runs[0][name]["settings"]}


def _tokens(one: Fit) -> int:
    """What a pass over it reads: the prompt twice, and both answers."""
    prompt, chosen, rejected = one.tokens
    return 2 * len(prompt) + len(chosen) + len(rejected)


def _longer(pairs: Sequence[Fit]) -> float:
    return sum(len(one.tokens[1]) > len(one.tokens[2]) for one in pairs) / len(pairs)


def _told(run: Mapping[str, Any]) -> str:
    shares = ", ".join(f"{name} {run[name]['accuracy']['mean']:.1%}" for name in _METHODS)
    return f"seed {run['seed']}: {shares} of {run['held_out_pairs']} held-out pairs"
