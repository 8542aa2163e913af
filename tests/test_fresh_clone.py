"""The README's first command, for somebody who has just come: not root, an empty home, a strict umask.

As root, with the tools for it, a real user is made and taken away again; else the one who runs this plays the
newcomer with an empty home.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.documents import ROOT, copy_of_the_project, git
from tests.journeys.processes import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAME = f"newcomer{os.getpid()}"  # nobody else's, also while somebody else runs the tests
# What an ordinary login has; and what a machine behind a proxy needs to reach the package index.
PATH = "/usr/local/bin:/usr/bin:/bin"
REACHES_PACKAGES = ("PIP_", "SSL_CERT_", "REQUESTS_CA_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True)
class Newcomer:
    home: Path
    acts_as: tuple[str, ...]  # what makes a command theirs

    def types(self, line: str) -> str:
        values = {
            name: value for name, value in os.environ.items() if name.upper().startswith(REACHES_PACKAGES)
        }
        told = subprocess.run(
            [*self.acts_as, "/bin/bash", "-c", f"umask 077; cd; {line}"],
            env=values | {"HOME": str(self.home), "PATH": PATH, "LANG": "C.UTF-8"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, f"{line}\n{told.stdout[-5000:]}{told.stderr[-5000:]}"
        return told.stdout


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    become = shutil.which("runuser")
    if os.geteuid() != 0 or become is None or shutil.which("useradd") is None:
        (tmp_path / "home").mkdir()
        yield Newcomer(tmp_path / "home", ())
        return
    subprocess.run(["useradd", "--create-home", "--skel", "/dev/null", NAME], check=True)
    try:
        yield Newcomer(Path(pwd.getpwnam(NAME).pw_dir), (become, "--user", NAME, "--"))
    finally:
        subprocess.run(["userdel", "--remove", NAME], capture_output=True, check=False)


def test_make_demo_needs_no_more_than_python_and_make(newcomer, tmp_path_factory):
    source = copy_of_the_project(tmp_path_factory.mktemp("source") / "project", with_git=True)
    bundle = newcomer.home / "project.bundle"
    git(source, "bundle", "create", "--quiet", str(bundle), "HEAD", "main")
    bundle.chmod(0o644)

    newcomer.types(f"git clone --quiet --branch main {bundle} project")
    web, simulator = free_port(), free_port()
    python = _a_python_that_they_can_run(newcomer)
    told = newcomer.types(
        f"cd project && make demo EXIT=1 WEB_PORT={web} SIMULATOR_PORT={simulator} PYTHON={python}"
    )

    assert "Recorded less included is what we metered, and what AWS bills" in told
    assert newcomer.types("cd project && git status --porcelain") == ""
    assert newcomer.types("cd project && make help").splitlines()[0].startswith("demo")


def _a_python_that_they_can_run(newcomer: Newcomer) -> str:
    """python3, unless that of this machine is older, or has no venv: then the one that runs the tests."""
    asked = "import sys, ensurepip; assert sys.version_info >= (3, 11)"
    try:
        newcomer.types(f"python3 -c '{asked}'")
    except AssertionError:
        return str(Path(os.path.realpath("/proc/self/exe")))
    return "python3"


def test_a_python_that_is_too_old_is_named_before_anything_is_made(tmp_path):
    old = tmp_path / "old"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 9, 2); $2"\n')
    old.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for target in ("demo", "test"):
        told = subprocess.run(
            ["make", target, "PYTHON=./old"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert told.returncode != 0
        assert "./old is 3.9: this needs CPython 3.11 or newer" in told.stderr
        assert not (tmp_path / ".venv").exists()
