"""Training methods: what an adapter can learn by. One class in a file of its own, one line here.

Importing it loads neither torch nor trl; a method's recipe and `trainer.methods.loop` do.
"""

from __future__ import annotations

from typing import Any

from trainer.methods.dpo import Dpo
from trainer.methods.kto import Kto
from trainer.methods.method import Method
from trainer.methods.sft import Sft

_ALL: tuple[Method[Any], ...] = (Dpo(), Kto(), Sft())
METHODS = {method.name: method for method in _ALL}
"""By name. Where an adapter leaves the choice to us, the first that applies is used."""
