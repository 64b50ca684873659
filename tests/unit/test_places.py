"""Texts for clients name no place of this machine, and keep all else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.places import reason_of, without_places


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("No such file: '/home/ann/.attune/blobs/ab/abcd'", "No such file: '…'"),
        ("/data/attune/adapters/ab/x/adapter_model.safetensors is cut off",
         "…/adapter_model.safetensors is cut off"),
        ("cannot open /srv/models/qwen: it is a folder", "cannot open …: it is a folder"),
        ('File "/usr/lib/python3.11/json/decoder.py", line 3', 'File "…/decoder.py", line 3'),
        ("see ~/.cache/huggingface/hub.", "see …"),
        ("'/model' does not load", "'…' does not load"),
        ("(/a/b/c.json)", "(…/c.json)"),
        ("path=/a b/c.json", "path=/a b/c.json"),  # of one part: no place
        ("'/a b/my model/c.json'", "'…/c.json'"),
        ("/a/b and '/c/d.bin' and /e/f.txt", "… and '…/d.bin' and …/f.txt"),
        ("See GET /v1/exports/{id}/events.", "See GET /v1/exports/{id}/events."),
        ("DELETE /api/public/scores/{id}", "DELETE /api/public/scores/{id}"),
        ("tokens/s, and/or, 1/2/3, support@1, a/b/c", "tokens/s, and/or, 1/2/3, support@1, a/b/c"),
        ("https://attune.example/a/b/c", "https://attune.example/a/b/c"),
        ("s3://bucket/key/x", "s3://bucket/key/x"),
        ("adapters/ab/abcd in the artifact store", "adapters/ab/abcd in the artifact store"),
        ("", ""),
    ],
)  # fmt: skip
def test_of_a_path_the_files_name_is_left(text: str, left: str) -> None:
    assert without_places(text) == left
    assert without_places(left) == left


@given(st.lists(st.from_regex(r"[a-z0-9._-]{1,12}", fullmatch=True), min_size=2, max_size=6))
def test_no_folder_above_a_file_is_told(parts: list[str]) -> None:
    path = "/" + "/".join(["srv", *parts])
    for said in (f"cannot read {path}", f"[Errno 2] No such file: '{path}'", f"({path})"):
        left = without_places(said)
        assert "srv" not in left.replace(parts[-1], "")
        assert path not in left


def test_an_error_of_the_system_is_told_in_its_words() -> None:
    with pytest.raises(OSError, match="No such file") as failed:
        Path("/srv/nowhere/at/all.bin").read_bytes()
    assert reason_of(failed.value) == "No such file or directory"
    assert reason_of(OSError("cannot map /srv/x/y.bin")) == "cannot map …/y.bin"
    assert reason_of(RuntimeError("bad: /srv/x/y")) == "bad: …"
