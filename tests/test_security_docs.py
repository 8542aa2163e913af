"""The pages about security name what exists."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from django.conf import settings

ROOT = settings.BASE_DIR
THREATS = (ROOT / "docs/threat-model.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
LISTING = (ROOT / "docs/listing-on-aws.md").read_text()
FACTS = (ROOT / "docs/aws-marketplace.md").read_text()


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", THREATS)


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_a_test_that_the_threat_model_names_exists(path, test):
    assert test in names_in(path)


def test_every_threat_names_its_test():
    rows = [line for line in THREATS.splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith(("| Threat ", "| --- "))]
    assert len(threats) > 50
    assert [row for row in threats if "::test_" not in row] == []
    assert THREATS.count("::test_") == len(NAMED)


def test_the_page_on_reporting_says_how_what_and_what_to_rotate():
    for heading in ("## Report a weakness", "## Supported versions", "## What to rotate"):
        assert heading in SECURITY
    for secret in ("SECRET_KEY", "AUDIT_KEY", "STATUS_TOKEN", "MARKETPLACE_ROLE_EXTERNAL_ID", "DATABASE_URL"):
        assert f"`{secret}`" in SECURITY


@pytest.mark.parametrize("text", [SECURITY, THREATS, LISTING])
def test_settings_that_are_named_exist(text):
    listed = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", text))
    assert named - listed - {"INVALID_FULFILLMENT_URL", "CODE_OF_CONDUCT"} == set()


@pytest.mark.parametrize("text", [SECURITY, THREATS, LISTING])
def test_files_that_are_named_exist(text):
    named = re.findall(r"`((?:docs|deploy|tests|billing|accounts|marketplace_saas)/[\w./-]+)", text)
    named += [f"docs/{name}" for name in re.findall(r"\]\((?!http)([\w-]+\.md)", text)]
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / name[5:]).exists()] == []


def test_the_way_to_the_listing_states_no_figure_that_the_facts_page_lacks():
    figures = set(
        re.findall(r"\d[\d.,]*(?= (?:hours?|days?|minutes?|business days|dimensions|requests))", LISTING)
    )
    assert figures
    assert {figure for figure in figures if figure not in FACTS} == set()


def test_each_step_to_the_listing_names_its_source():
    steps = re.split(r"^## ", LISTING, flags=re.MULTILINE)[1:]
    assert len(steps) >= 8
    unsourced = [step.splitlines()[0] for step in steps if "Source" not in step and "§" not in step]
    assert unsourced == []
