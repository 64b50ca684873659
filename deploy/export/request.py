"""What is to be exported, and what ties an export to its base model.

Must not know how it is done. Loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.edge.manifest import Layout, Precision, digest_of, file_entry
from deploy.export.prompts import Conversation
from deploy.export.thresholds import DEFAULTS, Thresholds

Progress = Callable[[str, float], None]

_SOURCE_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to export. `model` is the base model's folder, `model_name` its served name.

    The adapter fields are all None for the base alone. With fewer than 50 `prompts` shipped ones
    are added; `thresholds` None means those of the precision.
    """

    model: Path
    model_name: str
    layout: Layout
    precision: Precision
    adapter_folder: Path | None = None
    adapter: str | None = None
    version: int | None = None
    adapter_digest: str | None = None
    prompts: tuple[Conversation, ...] = ()
    prompt_source: str = "shipped"
    thresholds: Thresholds | None = None

    @property
    def name(self) -> str:
        """`support@3`, or the base's served name."""
        return f"{self.adapter}@{self.version}" if self.adapter else self.model_name

    @property
    def limits(self) -> Thresholds:
        """What the figures are held against."""
        return self.thresholds or DEFAULTS[self.precision]


def base_digest(model: Path) -> str:
    """SHA-256 over the base model's weights, configuration, tokenizer and template files.

    With the precision it says whether two exports can share a base.
    """
    found = sorted({file for pattern in _SOURCE_FILES for file in model.glob(pattern)})
    return digest_of({file.name: file_entry(file) for file in found if file.is_file()})
