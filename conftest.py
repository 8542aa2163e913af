"""Lets tests beside the code they test (marketplace_saas/example) use the project's fixtures too."""

import pytest

# Assertions there tell what differs, as those of a test do.
pytest.register_assert_rewrite("tests.journeys.crashes", "tests.journeys.submitters")

pytest_plugins = ["billing.simulator.pytest_plugin", "tests.plugin", "tests.chromium"]
