"""What identifies weights: the one digest of an adapter, and the one of a base model. Reads only.

Both are stored: an adapter's names its folder for ever, a base model's the exports made of it.
"""

from __future__ import annotations

from pathlib import Path

from core.errors import NotFound
from core.files import digest_of, sha256_of
from core.ids import Digest

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_BASE_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


def adapter_digest(folder: Path) -> Digest:
    """The digest of the two files of an adapter. Raises NotFound if one is missing."""
    for name in ADAPTER_FILES:
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise NotFound(f"{name} is missing from the adapter's folder.")
    return Digest(digest_of({name: sha256_of(folder / name) for name in ADAPTER_FILES}))


def base_digest(model: Path) -> Digest:
    """The digest of a base model's weights, configuration, tokenizer and template files."""
    found = {file for pattern in _BASE_FILES for file in model.glob(pattern) if file.is_file()}
    return Digest(digest_of({file.name: sha256_of(file) for file in found}))
