"""GitHub runs what .ci/run proves, and nothing else."""

import subprocess
import sys
from pathlib import Path

import yaml

from tests.documents import ROOT

WORKFLOW = ROOT / ".github/workflows/ci.yml"


def test_the_workflow_keeps_to_the_published_schema():
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.github-workflows", WORKFLOW],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_the_script_beside_postgresql_and_redis():
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    assert [step.get("run") for step in job["steps"]][-1] == ".ci/run"
    assert set(job["services"]) == {"postgres", "redis"}
    script = (ROOT / ".ci/run").read_text()
    assert all(name in script for name in job["env"])
    assert "continue-on-error" not in WORKFLOW.read_text()
