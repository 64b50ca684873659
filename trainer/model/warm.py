"""One base model, loaded once and kept warm, lent out to be asked, scored and trained.

Owns torch's view of the base model and the promise that every borrower gets the same weights,
bit for bit. Must not know: feedback, runs, what its borrowers do.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.errors import Unavailable

T = TypeVar("T")

_REMEMBERED = 64


class WarmModel:
    """The base model at `path` (a folder or a hub id): float32 on CPU, bfloat16 on CUDA.

    It is on `device`, else on CUDA where there is one. Loading happens on first use; Unavailable
    when it fails. `threads` sets torch's threads, 0 leaves them. Safe to share between threads:
    one borrower at a time.
    """

    def __init__(self, path: str, *, threads: int = 0, device: str = "") -> None:
        self.path = path
        self._base: Any = None
        self._checksum: tuple[int, ...] = ()
        self._lock = threading.RLock()
        self._memory: OrderedDict[str, Any] = OrderedDict()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if threads:
            torch.set_num_threads(threads)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, with a padding token in any case."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path)
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"No tokenizer could be loaded from {self.path!r}: {error}"
            ) from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def parameters(self) -> int:
        """How many weights the base model has."""
        return sum(weight.numel() for weight in self._loaded().parameters())

    @cached_property
    def vocabulary(self) -> int:
        """How many tokens it gives logits for."""
        return int(self._loaded().get_input_embeddings().weight.shape[0])

    @cached_property
    def context_tokens(self) -> int | None:
        """How many tokens it can take at once; None where its configuration does not say."""
        limit: int | None = getattr(self._loaded().config, "max_position_embeddings", None)
        return limit

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """The bare base model, to be wrapped and trained; restored and verified afterwards.

        Raises Unavailable when the borrower changed a base weight: whatever it produced must be
        thrown away, and the next borrower gets a newly loaded base.
        """
        with self._lock:
            base = self._loaded()
            try:
                yield base
            finally:
                _strip(base)
                if _checksum(base) != self._checksum:
                    self._base = None
                    raise Unavailable(
                        "The base model's weights changed while they were lent out; the result "
                        "was discarded and the model will be loaded again. Start the run again."
                    )

    @contextmanager
    def adapted(self, adapter_dir: Path | None) -> Iterator[Any]:
        """The model in evaluation mode with the adapter in `adapter_dir`, or as the bare base."""
        with self._lock, torch.no_grad():
            base = self._loaded()
            if adapter_dir is None:
                yield base
                return
            try:
                yield PeftModel.from_pretrained(base, str(adapter_dir)).eval()
            finally:
                _strip(base)

    def remembered(self, key: str, make: Callable[[], T]) -> T:
        """What `make` yields, or has yielded for this key lately; it may use the model."""
        with self._lock:
            if key not in self._memory:
                self._memory[key] = make()
                while len(self._memory) > _REMEMBERED:
                    self._memory.popitem(last=False)
            self._memory.move_to_end(key)
            found: T = self._memory[key]
            return found

    def _loaded(self) -> Any:
        with self._lock:
            if self._base is None:
                dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
                try:
                    base = AutoModelForCausalLM.from_pretrained(self.path, dtype=dtype)
                except (OSError, ValueError) as error:
                    raise Unavailable(
                        f"The base model {self.path!r} could not be loaded: {error}"
                    ) from error
                self._base = base.to(self.device).eval().requires_grad_(False)
                self._checksum = _checksum(self._base)
            return self._base


def _strip(base: Any) -> None:
    """Undo what PEFT and TRL did to `base`: adapter layers, the patched forward, gradients."""
    for name, module in list(base.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, module.get_base_layer())
    # trl 1.16's add_fused_lm_head shadows the class's forward on the instance.
    base.__dict__.pop("forward", None)
    base.__dict__.pop("peft_config", None)
    base.eval().requires_grad_(False)
    base.zero_grad(set_to_none=True)


def _checksum(base: Any) -> tuple[int, ...]:
    """Per tensor, the sum of its bit patterns as integers."""
    by_size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tuple(
        int(tensor.detach().contiguous().view(by_size[tensor.element_size()]).sum())
        for tensor in [*base.parameters(), *base.buffers()]
    )
