"""Lets tests beside the code they test (marketplace_saas/example) use the project's fixtures too."""

pytest_plugins = ["tests.plugin", "tests.chromium"]
