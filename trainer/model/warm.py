"""One base model, loaded once and kept warm, lent out to be asked, scored and trained.

Owns torch's view of the base model and the promise that every borrower gets the same weights,
bit for bit. Must not know: feedback, runs, what its borrowers do.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from adapters.validate import read_base
from core.errors import Invalid, Unavailable
from trainer.model.asking import as_asked
from trainer.model.memory import free_bytes, is_out_of_memory
from trainer.model.threads import Threads

T = TypeVar("T")

_REMEMBERED = 64
_BYTES = {"cpu": 4.0, "cuda": 2.0, "4bit": 0.6}  # of a weight: float32, bfloat16, NF4
_NO_ROOM = (
    "The base model does not fit into the trainer's memory: it takes {needs} and {free} are free. "
    "Use a smaller model, a machine or GPU (ATTUNE_TRAINER_DEVICE) with more memory, or raise "
    "ATTUNE_TRAINER_MEMORY_GIB if that is set."
)


class WarmModel:
    """The base model at `path` (a folder or a hub id): float32 on CPU, bfloat16 on CUDA.

    It is on `device`, else on CUDA where there is one. Loading happens on first use; Unavailable
    when it fails, Invalid when memory is too little, of `most_bytes` in all where that is over
    0. `threads` sets torch's threads, 0 follows what other processes leave. `in_4bit`: it is held
    in 4 bits whatever is asked for. Safe to share between threads: one borrower at a time.
    """

    def __init__(
        self,
        path: str,
        *,
        threads: int = 0,
        device: str = "",
        most_bytes: int = 0,
        in_4bit: bool = False,
    ) -> None:
        self.path = path
        self.threads = Threads(threads)
        self._most_bytes = most_bytes
        self._always_4bit = self._in_4bit = in_4bit
        self._base: Any = None
        self._checksum: tuple[int, ...] = ()
        self._lock = threading.RLock()
        self._memory: OrderedDict[str, Any] = OrderedDict()
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

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
        return int(self._loaded().num_parameters())

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
    def adapted(self, adapter_dir: Path | None, *, exact: bool = False) -> Iterator[Any]:
        """The model in evaluation mode with the adapter in `adapter_dir`, or as the bare base.

        As it is asked quickest (`trainer.model.asking`), or `exact`, in the weights it is held in.
        """
        with self._lock, torch.no_grad():
            base = self._loaded()
            self.threads.adapt()
            try:
                policy = base
                if adapter_dir is not None:
                    policy = PeftModel.from_pretrained(base, str(adapter_dir)).eval()
                with nullcontext(policy) if exact else self.as_asked(policy) as asked:
                    yield asked
            finally:
                if adapter_dir is not None:
                    _strip(base)

    def as_asked(self, policy: Any) -> AbstractContextManager[Any]:
        """What is quickest to ask of `policy`, the base as it was lent with what is on it."""
        return as_asked(policy, self.device, self.parameters, self.free_bytes())

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

    def free_bytes(self) -> int:
        """Memory that a training can take beside the base model."""
        self._loaded()
        return free_bytes(self.device, self._most_bytes)

    def hold_in_4bit(self, wanted: bool) -> None:
        """Hold the base in 4 bits from now on, or as it is; it is loaded anew where that changes.

        Raises Invalid where it cannot be, and changes nothing. Source: Dettmers et al. 2023, QLoRA.
        """
        wanted = wanted or self._always_4bit
        if wanted:
            self._require_4bit()
        with self._lock:
            if wanted != self._in_4bit:
                self._in_4bit, self._base = wanted, None
                self._memory.clear()

    def _loaded(self) -> Any:
        with self._lock:
            if self._base is None:
                how = self._how()
                self._require_room()
                try:
                    base = AutoModelForCausalLM.from_pretrained(self.path, **how)
                except (OSError, ValueError) as error:
                    raise Unavailable(
                        f"The base model {self.path!r} could not be loaded: {error}"
                    ) from error
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    raise Invalid(
                        _NO_ROOM.format(needs="more", free="less"), param="model"
                    ) from error
                base = base if self._in_4bit else base.to(self.device)
                self._base = base.eval().requires_grad_(False)
                self._checksum = _checksum(self._base)
            return self._base

    def _how(self) -> dict[str, Any]:
        if not self._in_4bit:
            return {"dtype": torch.bfloat16 if self.device.type == "cuda" else torch.float32}
        self._require_4bit()
        packed = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return {
            "dtype": torch.bfloat16,
            "quantization_config": packed,
            "device_map": {"": self.device},
        }

    def _require_4bit(self) -> None:
        if self.device.type != "cuda" or find_spec("bitsandbytes") is None:
            raise Invalid(
                "A base model in 4 bits needs a GPU and the package bitsandbytes beside the "
                "trainer: install it (pip install bitsandbytes), or leave load_in_4bit and "
                "ATTUNE_TRAINER_4BIT off.",
                param="load_in_4bit",
            )

    def _require_room(self) -> None:
        """Raise Invalid where the weights are larger than what is free: loading them would end
        in the kernel killing this process."""
        try:
            shapes = read_base(self.path).shapes.values()
        except Invalid:
            return  # no safetensors to tell by
        each = _BYTES["4bit" if self._in_4bit else self.device.type]
        size = each * sum(map(math.prod, shapes))
        free = free_bytes(self.device, self._most_bytes)
        if size > free:
            needs, left = (f"{one / 2**30:.1f} GiB" for one in (size, free))
            raise Invalid(_NO_ROOM.format(needs=needs, free=left), param="model")


def _strip(base: Any) -> None:
    """Undo what PEFT and TRL did to `base`: adapter layers, the patched forward, gradients."""
    for name, module in list(base.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, module.get_base_layer())
    # trl 1.16's add_fused_lm_head shadows the class's forward on the instance.
    base.__dict__.pop("forward", None)
    base.__dict__.pop("peft_config", None)
    if base.is_gradient_checkpointing:
        base.gradient_checkpointing_disable()
    base.eval().requires_grad_(False)
    base.zero_grad(set_to_none=True)


def _checksum(base: Any) -> tuple[int, ...]:
    """Per tensor, the sum of its bit patterns as integers."""
    by_size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tuple(
        int(tensor.detach().contiguous().view(by_size[tensor.element_size()]).sum())
        for tensor in [*base.parameters(), *base.buffers()]
    )
