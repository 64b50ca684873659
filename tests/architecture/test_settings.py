"""Documents say of every setting what the code says: its name, its default, its meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import pytest

from adapters.recipe import Recipe
from adapters.types import Learning
from core.settings import SHIPPED_MODEL, Settings
from server.routes.recipe import RecipeBody
from trainer.runs.recipes import as_used, learning_rate_for

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
HISTORY = {"CHANGELOG.md", "DECISIONS.md"}
SETTINGS = {f"ATTUNE_{name.upper()}": field for name, field in Settings.model_fields.items()}
# Variables that are no settings: the commands' server and key, a device's own key, the switch
# that `attune bench lora` compares with.
OTHERS = {"ATTUNE_URL", "ATTUNE_API_KEY", "ATTUNE_EDGE_KEY", "ATTUNE_CPU_LORA"}
SMALL = 3_600_000


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


def test_the_table_of_the_recipe_is_what_the_code_says() -> None:
    (rows,) = tables("| figure | default | bounds | meaning |")
    told = {name.strip("`"): (limits, meaning) for name, _, limits, meaning in map(cells, rows)}
    assert told == {
        name: (bounds(name, field), field.description)
        for name, field in RecipeBody.model_fields.items()
    }


def test_the_defaults_of_the_recipe_are_what_a_run_uses() -> None:
    (rows,) = tables("| figure | default | bounds | meaning |")
    used = as_used(Settings(), SMALL)
    numbers = {name.strip("`"): value for name, value, *_ in map(cells, rows) if value[0].isdigit()}
    assert len(numbers) == 8
    for name, first in numbers.items():
        assert number(first) == getattr(used, name), name
    assert used.kl_budget == Settings().gate_kl_cap
    assert used.kl_token_budget == Settings().gate_kl_token_cap
    assert used.alpha == 2 * (used.rank or 0)
    text = (ROOT / "docs" / "training.md").read_text()
    for module in used.target_modules or ():
        assert f"`{module}`" in text
    for parameters, rate in ((3_600_000, "1e-3"), (135_000_000, "2.3e-4"), (8 * 10**9, "4.6e-5")):
        assert learning_rate_for(parameters) == float(rate)
        assert rate in text


def number(cell: str) -> float:
    """The number a cell begins with."""
    return float(cell.split(",")[0].split()[0])


def bounds(name: str, field: Any) -> str:
    """A field's bounds as the table writes them; those of a list count its entries."""
    if name == "learning_rate":
        return "over 0, to 1"
    if bool in get_args(field.annotation):
        return "true or false"
    found: dict[str, Any] = {}
    for one in field.metadata:
        found |= {key: getattr(one, key) for key in vars(type(one)) if hasattr(one, key)}
    if "max_length" in found:
        return f"{found['min_length']} to {found['max_length']} of them"
    low = f"over {found['gt']}," if "gt" in found else f"{found['ge']}"
    return f"{low} to {found['le']}"


def test_the_table_of_how_an_adapter_learns_is_what_the_code_says() -> None:
    (rows,) = tables("| field | default | meaning |")
    told: dict[str, str] = {}
    for names, defaults, _ in map(cells, rows):
        if names == "`recipe`":
            assert defaults == "all `null`"
            assert set(asdict(Recipe()).values()) == {None}
            continue
        told |= zip(names.replace("`", "").split(", "), defaults.split(", "), strict=True)
    assert told == {
        field.name: in_json(field.default) for field in fields(Learning) if field.name != "recipe"
    }


def in_json(default: Any) -> str:
    """A default as the API shows it."""
    words = {True: "`true`", None: "`null`"}
    return words[default] if default is True or default is None else shown(default)


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_MAX_LORA_RANK", "64")
    monkeypatch.setenv("ATTUNE_NO_SUCH_SETTING", "1")
    assert Settings().max_lora_rank == 64
