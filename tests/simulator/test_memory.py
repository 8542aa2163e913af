"""A process that billed a million records holds little more than the records."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_million_records_need_little_more_than_themselves():
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator.million"], capture_output=True, text=True, check=True
    )
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["records"] == 1_000_000
    assert figures["grew"] <= 1.3 * figures["added"]
    # A few pages of the allocator's own; a record held per call would be 100 MB.
    assert figures["repeats_grew"] < 8 * 2**20
