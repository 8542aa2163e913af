"""The fixture in somebody else's project: one line to use it, and no Django settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = """
import threading
from django.conf import settings

PRODUCT = {"code": "p", "dimensions": [{"key": "pages"}]}

def test_it_is_empty_and_filled(simulator):
    assert simulator.control.state()["products"] == []
    simulator.control.add_product(PRODUCT)
    sold = []
    def buy():
        sold.append(simulator.control.subscribe("p").agreement_id)
    threads = [threading.Thread(target=buy) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = simulator.control.state()
    assert sorted(each["agreement_id"] for each in state["agreements"]) == sorted(sold)
    assert simulator.state.switches.quotas is False
    assert not settings.configured

def test_it_is_empty_again(simulator, monkeypatch):
    assert simulator.control.state()["products"] == []
    assert set(simulator.endpoint_env.values()) == {simulator.url}
"""


def test_one_line_gives_any_project_the_fixture(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["billing.simulator.pytest_plugin"]\n')
    (tmp_path / "test_theirs.py").write_text(TESTS)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
