"""Exports beside transformers on this machine: sizes, times, tokens per second, equality, taste.

Both layouts at all three precisions are made from one adapter that was really trained, by the
same code as `attune export`, and measured with the runtime that devices run.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from rich.table import Table

from core.settings import Settings
from deploy.bench.results import figure_table
from deploy.bench.setting import progress
from deploy.edge.manifest import (
    ADAPTER_FILE,
    Layout,
    Manifest,
    Precision,
    adapter_folder,
    read_manifest,
)
from deploy.export.request import AdapterVersion, ExportJob

if TYPE_CHECKING:
    from deploy.bench.taste import Choose, Step
    from trainer.model.warm import WarmModel

NEW_TOKENS = 128
PROMPT_TOKENS = 64
SWITCHES = 50
_NAME = "taste@1"
_VERIFIED = (
    "prompts",
    "tokens",
    "argmax_agreement",
    "greedy_equal",
    "perplexity_difference",
    "max_logit_difference",
)


def measure(*, rounds: int = 5, questions: int = 300, threads: int = 1) -> dict[str, Any]:
    """Train, export six times, measure, with `threads` on either side: at batch 1 one is best for
    a model as small as the shipped one, for transformers too.

    Each speed is the median of `rounds` turns; a ratio is that of neighbouring turns, so that
    what else the machine does weighs on both. Raises what exporting raises.
    """
    from deploy.bench.taste import TASTE, answers_with, learn_taste, source_step
    from deploy.demo.users import score
    from deploy.demo.world.questions import held_out_questions
    from trainer.model.warm import WarmModel

    path = Settings().model
    model = WarmModel(path, threads=threads)
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as folder:
        root = Path(folder)
        with progress.status("Training an adapter …"):
            adapter = learn_taste(model, root / "adapter")
        asked = held_out_questions(questions, seed=1)

        def judged(step: Step) -> dict[str, float]:
            return asdict(score(answers_with(step, model.tokenizer, asked), TASTE))

        def of_source(folder: Path | None) -> dict[str, float]:
            with model.adapted(folder, exact=True) as adapted:
                return judged(source_step(adapted))

        with progress.status("Asking the source …"):
            served, base = of_source(adapter), of_source(None)
        figures: dict[str, Any] = {"threads": threads, "rounds": rounds, "questions": questions}
        figures |= {"prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS}
        figures |= {"served": served, "base": base, "exports": {}}
        for layout in get_args(Layout):
            for precision in get_args(Precision):
                name = f"{layout} {precision}"
                out = root / name.replace(" ", "-")
                with progress.status(f"Exporting {name} …"):
                    began = time.perf_counter()
                    manifest = _exported(path, adapter, layout, precision, out)
                    export_s = time.perf_counter() - began
                with progress.status(f"Measuring {name} …"):
                    export = _Export(out, threads)
                    found = _measure(export, manifest, model, rounds)
                    found["export_s"] = export_s
                    taste = judged(export.answer)
                    points = {
                        f"{name}_points": 100 * (taste[name] - served[name]) for name in taste
                    }
                    found["taste"] = taste | points
                figures["exports"][name] = found
                progress.print(f"{name}: {found['tokens_per_s']:,.0f} tokens/s", highlight=False)
    return figures


def table(figures: Mapping[str, Any]) -> Table:
    """A column per layout and precision; ratios are to `transformers.generate` in the same run."""
    exports = figures["exports"]
    names = (name.rpartition(" ") for name in exports)
    first = next(iter(exports.values()))
    return figure_table(
        f"Exports, batch 1, {figures['prompt_tokens']}-token prompt, greedy answers of "
        f"{figures['new_tokens']} tokens, threads: {figures['threads']}",
        (
            "",
            *(f"{layout.replace('+adapters', '+')}\n{precision}" for layout, _, precision in names),
        ),
        ([title, *(figure(found) for found in exports.values())] for title, figure in _ROWS),
        f"base+: base+adapters. transformers: {first['transformers_tokens_per_s']:,.0f} tokens/s, "
        f"first token {first['transformers_first_token_ms']:.1f} ms. The source with its adapter "
        f"answers {figures['served']['preferred']:.1%} in the liked style (the base "
        f"{figures['base']['preferred']:.1%}) and {figures['served']['facts']:.1%} with right "
        f"facts, of {figures['questions']} questions.",
    )


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


class _Export:
    """An export in memory, run as devices run it, with its adapter active if it has one."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai as og

        self._og = og
        self.folder = folder
        self._threads = threads
        self.file = next(iter(folder.glob(f"adapters/*/{ADAPTER_FILE}")), None)
        self.load()

    def load(self) -> float:
        """Load the model; seconds. As a user would wait: with the adapter."""
        began = time.perf_counter()
        config = self._og.Config(str(self.folder / "model"))
        options = {"session_options": {"intra_op_num_threads": self._threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = self._og.Model(config)
        self._adapters = None
        if self.file is not None:
            self._adapters = self._og.Adapters(self._model)
            self._adapters.load(str(self.file), _NAME)
        return time.perf_counter() - began

    def generator(self, max_length: int, *, bare: bool = False, **options: Any) -> Any:
        """A new generator, with the adapter active unless `bare`."""
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(max_length=max_length, do_sample=False, **options)
        generator = self._og.Generator(self._model, params)
        if self._adapters is not None and not bare:
            generator.set_active_adapter(self._adapters, _NAME)
        return generator

    def switch_ms(self) -> float | None:
        """Making the adapter the active one of a new generator; None if there is none."""
        if self._adapters is None:
            return None
        taken = []
        for _ in range(SWITCHES):
            generator = self.generator(PROMPT_TOKENS, bare=True)
            began = time.perf_counter()
            generator.set_active_adapter(self._adapters, _NAME)
            taken.append((time.perf_counter() - began) * 1000)
        return median(taken)

    def first_token_ms(self, prompt: np.ndarray) -> float:
        """From a new generator to the first token of the answer."""
        began = time.perf_counter()
        generator = self.generator(len(prompt) + NEW_TOKENS)
        generator.append_tokens(prompt)
        generator.generate_next_token()
        return (time.perf_counter() - began) * 1000

    def tokens_per_s(self, prompt: np.ndarray) -> float:
        """Of one greedy answer of NEW_TOKENS, prompt and all."""
        length = len(prompt) + NEW_TOKENS
        began = time.perf_counter()
        generator = self.generator(length, min_length=length)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
        taken_s = time.perf_counter() - began
        return float(generator.token_count() - len(prompt)) / taken_s

    def answer(self, prompt: Sequence[int], choose: Choose) -> list[int]:
        """The tokens `choose` picks from the logits of each step, until it picks none."""
        generator = self.generator(len(prompt) + 2 * NEW_TOKENS)
        generator.append_tokens(np.array(prompt, dtype=np.int32))
        tokens: list[int] = []
        while (token := choose(generator.get_logits().reshape(-1), len(tokens))) is not None:
            tokens.append(token)
            generator.append_tokens(np.array([token], dtype=np.int32))
        return tokens


def _measure(export: _Export, manifest: Manifest, model: WarmModel, rounds: int) -> dict[str, Any]:
    """Speeds of the export beside those of the plain base in transformers, taking turns."""
    with model.adapted(None, exact=True) as base:
        vocabulary = int(base.config.vocab_size)
        # Any ids do: what a token costs does not depend on which it is.
        prompt = np.random.default_rng(0).integers(16, vocabulary, PROMPT_TOKENS, dtype=np.int32)
        export.tokens_per_s(prompt)
        _generation_s(base, prompt, NEW_TOKENS)
        exported, sourced, first, first_source, loads = [], [], [], [], []
        for _ in range(rounds):
            exported.append(export.tokens_per_s(prompt))
            sourced.append(NEW_TOKENS / _generation_s(base, prompt, NEW_TOKENS))
            first.append(export.first_token_ms(prompt))
            first_source.append(_generation_s(base, prompt, 1) * 1000)
            loads.append(export.load() * 1000)
    found: dict[str, Any] = {
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        "load_ms": median(loads),
        "first_token_ms": median(first),
        "transformers_first_token_ms": median(first_source),
        "tokens_per_s": median(exported),
        "transformers_tokens_per_s": median(sourced),
        "ratio": median(a / b for a, b in zip(exported, sourced, strict=True)),
        "switch_ms": export.switch_ms(),
        "verification": _figures(manifest),
    }
    if export.file is not None:
        adapter = read_manifest(export.file.parent)
        found["adapter_bytes"] = adapter.files[ADAPTER_FILE].size_bytes
        found["base_verification"] = found["verification"]
        found["verification"] = _figures(adapter)
    return found


def _generation_s(base: Any, prompt: np.ndarray, count: int) -> float:
    """Seconds that transformers takes for `count` tokens after the prompt."""
    import torch

    began = time.perf_counter()
    ids = torch.tensor(prompt[None], dtype=torch.long)
    base.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        temperature=None,
        max_new_tokens=count,
        min_new_tokens=count,
    )
    return time.perf_counter() - began


def _figures(manifest: Manifest) -> dict[str, Any]:
    assert manifest.verification is not None  # nothing is published without
    return {name: getattr(manifest.verification, name) for name in _VERIFIED}


def _exported(
    path: str, adapter: Path, layout: Layout, precision: Precision, out: Path
) -> Manifest:
    from deploy.export.exporter import export_adapter, export_model

    def quiet(_: str, __: float) -> None:
        pass

    version = AdapterVersion(adapter, "taste", 1)
    job = ExportJob(Path(path), "base", layout, precision, version)
    if layout == "merged":
        return export_model(job, out, quiet)
    manifest = export_model(replace(job, adapter=None), out, quiet)
    export_adapter(job, out, adapter_folder(out, job.name), quiet)
    return manifest
