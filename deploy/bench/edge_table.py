"""The table `attune bench edge` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def edge_table(figures: Mapping[str, Any]) -> Table:
    """One row per layout and precision; ratios are to `transformers.generate` in the same run."""
    table = Table(
        title=f"Exports, batch 1, {figures['prompt_tokens']}-token prompt, greedy answers of "
        f"{figures['new_tokens']} tokens, threads: {figures['threads']}"
    )
    columns = ("MB", "adapter MB", "load ms", "first token ms", "tokens/s", "ratio", "switch ms")
    for column in ("export", *columns, "argmax", "greedy", "taste, facts: points"):
        table.add_column(column, justify="left" if column == "export" else "right")
    for name, found in figures["exports"].items():
        switch, adapter = found["switch_ms"], found.get("adapter_bytes")
        taste = found["taste"]
        table.add_row(
            name,
            f"{found['size_bytes'] / 1e6:.2f}",
            "" if adapter is None else f"{adapter / 1e6:.2f}",
            f"{found['load_ms']:.0f}",
            f"{found['first_token_ms']:.1f}",
            f"{found['tokens_per_s']:,.0f}",
            f"{found['ratio']:.1f}",
            "" if switch is None else f"{switch:.3f}",
            f"{found['verification']['argmax_agreement']:.1%}",
            f"{found['verification']['greedy_equal']:.0%}",
            f"{taste['preferred_points']:+.1f}, {taste['facts_points']:+.1f}",
        )
    first = next(iter(figures["exports"].values()))
    table.caption = (
        f"transformers: {first['transformers_tokens_per_s']:,.0f} tokens/s, first token "
        f"{first['transformers_first_token_ms']:.1f} ms. The source with its adapter answers "
        f"{figures['served']['preferred']:.1%} in the liked style (the base "
        f"{figures['base']['preferred']:.1%}) and {figures['served']['facts']:.1%} with right "
        f"facts, of {figures['questions']} questions."
    )
    return table
