"""docs/simulator.md is true: its recipes run as they stand, and its tables name what there is."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from billing.simulator import faults
from billing.simulator.switches import Switches, Timings, describe_switches

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/simulator.md").read_text()
COMMAND = (ROOT / "billing/management/commands/marketplace_simulator.py").read_text()
_FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_RECIPE = re.compile(r"^def (test_\w+)", re.MULTILINE)


def _recipes() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in _FENCED.findall(DOCUMENT):
        if not block.startswith("pytest_plugins"):
            exec(compile(block, "docs/simulator.md", "exec"), names)
    return names


NAMES = _recipes()
RECIPES = _RECIPE.findall(DOCUMENT)
seller = NAMES["seller"]


def test_there_are_five_recipes() -> None:
    assert len(RECIPES) == len(set(RECIPES)) == 5


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_works(name: str, seller: Any) -> None:
    NAMES[name](seller)


def _rows(heading: str) -> dict[str, list[str]]:
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_switch_is_told_with_its_default_and_meaning() -> None:
    assert _rows("What AWS leaves open") == {
        switch["name"]: [f"`{json.dumps(switch['default'])}`", switch["about"]]
        for switch in describe_switches(Switches())
    }


def test_every_fault_is_told() -> None:
    assert set(_rows("Accidents to order")) == set(faults.KINDS)


def test_every_timing_is_told_with_its_default() -> None:
    told = {name: float(row[0]) for name, row in _rows("How long AWS takes").items()}
    assert told == {name: default.total_seconds() for name, default in asdict(Timings()).items()}


def test_every_option_of_the_command_is_told() -> None:
    told = set(re.findall(r"`(--[a-z-]+)", DOCUMENT))
    assert set(re.findall(r"\"(--[a-z-]+)\"", COMMAND)) <= told
