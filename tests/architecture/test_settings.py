"""Documents say of every setting what the code says: its name, its default, its meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from adapters.types import Learning
from core.settings import SHIPPED_MODEL, Settings
from trainer.runs.plan import hyperparameters

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
HISTORY = {"CHANGELOG.md", "DECISIONS.md"}
SETTINGS = {f"ATTUNE_{name.upper()}": field for name, field in Settings.model_fields.items()}
# Variables that are no settings: the commands' server and key, a device's own key, the switch
# that `attune bench lora` compares with.
OTHERS = {"ATTUNE_URL", "ATTUNE_API_KEY", "ATTUNE_EDGE_KEY", "ATTUNE_CPU_LORA"}
SMALL, LARGE = 1_000_000, 1_000_000_000


def shown(default: object) -> str:
    """A default as the tables write it."""
    if default in (None, ""):
        return "empty"
    if default == str(SHIPPED_MODEL):
        return "the shipped model"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, int | float):
        return f"{default:g}" if isinstance(default, float) else str(default)
    return f"`{default}`"


def cells(row: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def tables(header: str) -> Iterator[list[str]]:
    """The rows below every such header in the documents."""
    for path in DOCUMENTS:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if line == header:
                rows = lines[number + 2 :]
                end = next((at for at, row in enumerate(rows) if not row.startswith("|")), None)
                yield rows[:end]


def test_the_table_of_settings_is_what_the_code_says() -> None:
    (rows,) = tables("| variable | default | meaning |")
    assert rows == [
        f"| `{name}` | {shown(field.default)} | {field.description} |"
        for name, field in SETTINGS.items()
    ]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_says_what_it_is_and_what_an_empty_one_means(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description is not None
    assert field.description.endswith(".")
    assert len(field.description) > 15
    assert (field.default in (None, "")) == ("empty: " in field.description)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_names_a_setting_or_a_default_that_is_not(path: Path) -> None:
    if path.name not in HISTORY:
        assert untrue(path.read_text()) == []


def untrue(text: str) -> list[str]:
    """Settings a text names that there are not, or with another default in brackets."""
    found = []
    for name, value in re.findall(r"`(ATTUNE_[A-Z_]+[A-Z])`(?: \(([\d.]+)\))?", text):
        if name not in SETTINGS and name not in OTHERS:
            found.append(name)
        elif value and float(value) != SETTINGS[name].default:
            found.append(f"{name} ({value})")
    return found


def test_a_wrong_name_and_a_wrong_default_are_seen() -> None:
    text = "`ATTUNE_NO_SUCH`, `ATTUNE_MAX_LORAS` (9), `ATTUNE_MAX_LORAS` (8), `ATTUNE_URL`"
    assert untrue(text) == ["ATTUNE_NO_SUCH", "ATTUNE_MAX_LORAS (9)"]


def test_the_table_of_hyperparameters_is_what_a_small_and_a_large_model_get() -> None:
    (rows,) = tables("| | under 100M parameters | larger | setting |")
    small, large = hyperparameters(Settings(), SMALL), hyperparameters(Settings(), LARGE)
    seen = set()
    for _, of_small, of_large, setting in map(cells, rows):
        if not setting.startswith("`ATTUNE_TRAIN_"):
            continue
        seen.add(setting.strip("`"))
        name = setting.strip("`").removeprefix("ATTUNE_TRAIN_").lower()
        assert number(of_small) == getattr(small, name), setting
        assert number(of_small if of_large == "the same" else of_large) == getattr(large, name)
    assert seen == {name for name in SETTINGS if name.startswith("ATTUNE_TRAIN_")}


def number(cell: str) -> float:
    """The number a cell begins with."""
    return float(cell.split(",")[0].split()[0])


def test_the_table_of_how_an_adapter_learns_is_what_the_code_says() -> None:
    (rows,) = tables("| field | default | meaning |")
    told: dict[str, str] = {}
    for names, defaults, _ in map(cells, rows):
        told |= zip(names.replace("`", "").split(", "), defaults.split(", "), strict=True)
    assert told == {field.name: in_json(field.default) for field in fields(Learning)}


def in_json(default: Any) -> str:
    """A default as the API shows it."""
    words = {True: "`true`", None: "`null`"}
    return words[default] if default is True or default is None else shown(default)


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_MAX_LORA_RANK", "64")
    monkeypatch.setenv("ATTUNE_NO_SUCH_SETTING", "1")
    assert Settings().max_lora_rank == 64
