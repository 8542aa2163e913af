"""A fork deletes the example product: the folder and its line in urls. Everything else must not notice."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITH_PAGES = (
    "claiming",
    "gates",
    "getting_ready",
    "onboarding",
    "pages",
    "seats",
    "subscriptions",
    "usage_page",
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_other_tests_stay_green_without_the_example(tmp_path):
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    shutil.rmtree(tmp_path / "marketplace_saas/example")
    urls = tmp_path / "marketplace_saas/urls.py"
    lines = urls.read_text().splitlines()
    kept = [line for line in lines if "marketplace_saas.example" not in line]
    assert len(kept) == len(lines) - 1
    urls.write_text("\n".join(kept) + "\n")

    # Nothing imports it.
    collected = ["-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    subprocess.run([sys.executable, *collected], cwd=tmp_path, check=True, capture_output=True)
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "COVERAGE_FILE")
    }
    pages = [path.relative_to(ROOT) for path in (ROOT / "tests").glob("test_*.py")]
    rest = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--dist",
            "loadfile",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            # Whatever opens pages: the ledger and the simulator, which have none, are only collected.
            *map(str, sorted(pages)),
            "tests/accounts",
            *(f"tests/billing/test_{subject}.py" for subject in WITH_PAGES),
        ],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert rest.returncode == 0, rest.stdout[-5000:] + rest.stderr[-2000:]
    assert " passed" in rest.stdout
