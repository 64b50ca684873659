"""A store elsewhere, by fsspec URL: whole files up and down. Knows nothing of digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.errors import NotFound


class Remote:
    """The files below `url`, each under a key such as `blobs/ab/abcd…`. OSErrors pass through."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def upload(self, source: Path, key: str) -> None:
        """Copy a local file there, in pieces."""
        self._filesystem().put_file(str(source), f"{self.url}/{key}")

    def download(self, key: str, target: Path) -> None:
        """Copy a file from there, in pieces. Raises NotFound if there is none."""
        try:
            self._filesystem().get_file(f"{self.url}/{key}", str(target))
        except FileNotFoundError as error:
            raise NotFound(f"{key} is missing from {self.url}.") from error

    def has(self, key: str, size_bytes: int) -> bool:
        """Whether a file of that size is there."""
        try:
            return bool(self._filesystem().size(f"{self.url}/{key}") == size_bytes)
        except FileNotFoundError:
            return False

    def _filesystem(self) -> Any:
        import fsspec

        return fsspec.core.url_to_fs(self.url)[0]
