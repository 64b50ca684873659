"""What identifies weights: the one digest of an adapter, and the one of a base model. Reads only.

All are stored: an adapter's names its folder for ever; a base model's names the exports made of
it, and that of its weights the versions made for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.errors import NotFound
from core.files import digest_of, sha256_of
from core.ids import Digest

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_UNTOLD = ("_name_or_path", "transformers_version")  # of a configuration: they change no answer
_BASE_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


def adapter_digest(folder: Path) -> Digest:
    """The digest of the two files of an adapter. Raises NotFound if one is missing."""
    for name in ADAPTER_FILES:
        path = folder / name
        if not path.is_file() or path.is_symlink():
            raise NotFound(f"{name} is missing from the adapter's folder.")
    return Digest(digest_of({name: sha256_of(folder / name) for name in ADAPTER_FILES}))


def base_digest(model: Path, sha256: Callable[[Path], str] = sha256_of) -> Digest:
    """The digest of a base model's weights, configuration, tokenizer and template files."""
    found = {file for pattern in _BASE_FILES for file in model.glob(pattern) if file.is_file()}
    return Digest(digest_of({file.name: sha256(file) for file in found}))


def weights_digest(model: Path, sha256: Callable[[Path], str] = sha256_of) -> Digest:
    """The digest of what an adapter is made for: a base model's configuration and weights.

    Every byte of the weights counts, as they lie in their files. The tokenizer and the chat
    template do not: with others, an adapter is asked differently, and fits all the same.
    """
    files = sorted(model.glob("*.safetensors"))
    with ThreadPoolExecutor(max_workers=8) as several:  # hashing lets other threads run
        told = dict(zip((file.name for file in files), several.map(sha256, files), strict=True))
    return Digest(digest_of({**told, "config": _told(model / "config.json")}))


def _told(config: Path) -> str:
    try:
        values: dict[str, Any] = json.loads(config.read_bytes())
    except FileNotFoundError:
        return ""
    told = {name: value for name, value in values.items() if name not in _UNTOLD}
    return json.dumps(told, sort_keys=True)
