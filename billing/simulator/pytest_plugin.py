"""One fixture: ``simulator``, a fresh AWS Marketplace on a free port of this machine for each test that asks.

Use it with ``pytest_plugins = ["billing.simulator.pytest_plugin"]`` in the topmost conftest.py. It needs no
Django settings and does not touch the environment; a test that wants unmodified SDKs pointed here does so
with ``simulator.endpoint_env``. Quotas are off, and AWS is quick; ``simulator.control`` changes both.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from billing.simulator.client import SimulatorControl
from billing.simulator.server import SimulatorServer
from billing.simulator.state import State
from billing.simulator.switches import QUICK, Switches


class RunningSimulator(SimulatorServer):
    """What the fixture hands out: ``url``, ``endpoint_env``, ``state`` and ``control``."""

    def __init__(self) -> None:
        # Quotas count real seconds, which would make a test's outcome depend on how fast it runs.
        super().__init__(State(switches=Switches(quotas=False), timings=QUICK))
        self.control = SimulatorControl(self.url)


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """A fresh simulator with an empty store."""
    server = RunningSimulator()
    with server:
        yield server
