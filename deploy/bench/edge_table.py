"""The table `attune bench edge` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table


def edge_table(figures: Mapping[str, Any]) -> Table:
    """A column per layout and precision; ratios are to `transformers.generate` in the same run."""
    exports = figures["exports"]
    table = Table(
        title=f"Exports, batch 1, {figures['prompt_tokens']}-token prompt, greedy answers of "
        f"{figures['new_tokens']} tokens, threads: {figures['threads']}"
    )
    table.add_column("")
    for name in exports:
        layout, _, precision = name.rpartition(" ")
        table.add_column(f"{layout.replace('+adapters', '+')}\n{precision}", justify="right")
    for title, figure in _ROWS:
        table.add_row(title, *(figure(found) for found in exports.values()))
    first = next(iter(exports.values()))
    table.caption = (
        f"base+: base+adapters. transformers: {first['transformers_tokens_per_s']:,.0f} tokens/s, "
        f"first token {first['transformers_first_token_ms']:.1f} ms. The source with its adapter "
        f"answers {figures['served']['preferred']:.1%} in the liked style (the base "
        f"{figures['base']['preferred']:.1%}) and {figures['served']['facts']:.1%} with right "
        f"facts, of {figures['questions']} questions."
    )
    return table


def _if_any(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


_ROWS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("size, MB", lambda f: f"{f['size_bytes'] / 1e6:.2f}"),
    ("adapter file, MB", lambda f: _if_any(f.get("adapter_bytes", 0) / 1e6 or None, ".2f")),
    ("load, ms", lambda f: f"{f['load_ms']:.0f}"),
    ("first token, ms", lambda f: f"{f['first_token_ms']:.1f}"),
    ("tokens/s", lambda f: f"{f['tokens_per_s']:,.0f}"),
    ("x transformers", lambda f: f"{f['ratio']:.1f}"),
    ("switch, ms", lambda f: _if_any(f["switch_ms"], ".3f")),
    ("argmax agreement", lambda f: f"{f['verification']['argmax_agreement']:.1%}"),
    ("greedy equal", lambda f: f"{f['verification']['greedy_equal']:.0%}"),
    ("taste, points", lambda f: f"{f['taste']['preferred_points']:+.1f}"),
    ("facts, points", lambda f: f"{f['taste']['facts_points']:+.1f}"),
)
