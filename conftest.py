"""Lets tests beside the code they test (marketplace_saas/example) use the project's fixtures too."""

pytest_plugins = ["billing.simulator.pytest_plugin", "tests.plugin", "tests.chromium"]
