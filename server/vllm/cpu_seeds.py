"""Keeps vLLM 0.32 alive on CPUs when a request with a seed has its prompt read in several steps;
importing it loads no vLLM.

What a step samples after a part of a prompt is dropped, and the request's random generator set back
by moving its offset. Generators of CPUs have none: torch raises, and the engine dies for everybody.
Here such a generator gets its former state again, and vLLM does not see it while it tidies up. It
can go when vLLM knows of CPUs there; a test fails once torch gives them an offset.
"""

from __future__ import annotations

from typing import Any

_MARK = "attune_keeps_seeds"


def install() -> bool:
    """Mend the model runner for CPUs; True if it applies.

    Call it in each vLLM process before the model is loaded; again, it changes nothing.
    """
    import vllm
    from vllm.platforms import current_platform

    if not vllm.__version__.startswith("0.32.") or not current_platform.is_cpu():
        return False
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    sample, tidy_up = CPUModelRunner._sample, CPUModelRunner._bookkeeping_sync
    if hasattr(sample, _MARK):
        return True

    def keeping(self: Any, *args: Any, **options: Any) -> Any:
        states = [(each, each.get_state()) for each in _half_read(self).values()]
        sampled = sample(self, *args, **options)
        for generator, state in states:
            generator.set_state(state)
        return sampled

    def hiding(self: Any, *args: Any, **options: Any) -> Any:
        generators, hidden = self.input_batch.generators, _half_read(self)
        for row in hidden:
            del generators[row]
        try:
            return tidy_up(self, *args, **options)
        finally:
            generators.update(hidden)

    setattr(keeping, _MARK, True)
    CPUModelRunner._sample, CPUModelRunner._bookkeeping_sync = keeping, hiding
    return True


def _half_read(runner: Any) -> dict[int, Any]:
    """The generators, by row of the batch, of requests whose prompts are read in part."""
    generators = runner.input_batch.generators
    if not generators:
        return {}
    dropped = runner.discard_request_mask.np
    return {row: generator for row, generator in generators.items() if dropped[row]}
