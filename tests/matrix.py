"""`make test-matrix`: the tests on SQLite, and Redis where it answers, with each CPython and the next Django.

Each has an environment of its own in .matrix/: the pins of requirements-dev.txt, and for the next Django what
uv makes of requirements-dev.in with that one bound lifted. What is not here is named, and is no failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.run import REDIS_URL, unreachable_redis

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".matrix"
UV = Path(sys.executable).with_name("uv")
PYTHONS = ("3.11", "3.12", "3.13")
PINNED = re.compile(r"^Django>=[\d.]+,<[\d.]+", re.MULTILINE)
NEXT_DJANGO = "Django>=6.1,<6.2"
NEEDS = "3.12"  # that Django's oldest CPython
# What each release is to say in any case: a deprecation of Django's own shows what the next bump will take.
SUITE = ["-m", "not slow and not browser"]


@dataclass(frozen=True, slots=True)
class Cell:
    python: str
    is_next: bool

    @property
    def name(self) -> str:
        return f"{self.python}-{'next' if self.is_next else 'pinned'}"

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def executable(self) -> Path:
        return self.folder / "bin/python"


@dataclass(frozen=True, slots=True)
class Outcome:
    cell: Cell
    versions: str
    result: str
    seconds: float
    is_green: bool


def main(arguments: list[str]) -> int:
    parser = ArgumentParser(prog="make test-matrix", description=__doc__)
    parser.add_argument("--only", default="", help="3.13, or 3.13-next")
    parser.add_argument(
        "tests",
        nargs="*",
        help="after --: some tests, or pytest's arguments; else all but slow ones and the browser's",
    )
    options = parser.parse_args(arguments)
    outcomes, missing = [], []
    for cell in cells():
        if not cell.name.startswith(options.only):
            continue
        found = interpreter(cell.python)
        if found is None:
            missing.append(cell)
            continue
        print(
            f"\n=== CPython {cell.python}, {'the next' if cell.is_next else 'the pinned'} Django", flush=True
        )
        outcomes.append(outcome(cell, found, options.tests))
    print("\n| CPython | Django | Result | Time |\n| --- | --- | --- | --- |")
    for each in outcomes:
        print(f"| {each.versions} | {each.result} | {each.seconds / 60:.1f} min |")
    for python in sorted({cell.python for cell in missing}):
        print(f"Not found: CPython {python}, neither on the PATH nor of pyenv. Nothing was tried on it.")
    return 0 if outcomes and all(each.is_green for each in outcomes) else 1


def cells() -> Iterator[Cell]:
    for python in PYTHONS:
        yield Cell(python, is_next=False)
    for python in PYTHONS[PYTHONS.index(NEEDS) :]:
        yield Cell(python, is_next=True)


def interpreter(python: str) -> str | None:
    """The newest of this minor release that really starts: a shim of pyenv's may lead nowhere."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(
        pyenv.glob(f"{python}.*/bin/python"), key=lambda path: int(path.parts[-3].rpartition(".")[2])
    )
    for each in (*map(str, reversed(installed)), shutil.which(f"python{python}"), sys.executable):
        if each and _version(each) == python:
            return each
    return None


def _version(executable: str) -> str | None:
    told = subprocess.run(
        [executable, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"],
        capture_output=True,
        text=True,
        check=False,
    )
    version, _, implementation = told.stdout.strip().partition(" ")
    return version if implementation == "cpython" else None


def outcome(cell: Cell, python: str, tests: list[str]) -> Outcome:
    started = time.monotonic()
    versions = f"{cell.python} | {'6.1' if cell.is_next else 'pinned'}"
    try:
        install(cell, python)
    except subprocess.CalledProcessError as error:
        print(error.stderr)
        return Outcome(cell, versions, "could not be installed", time.monotonic() - started, is_green=False)
    asked = "import sys, django; print(sys.version.split()[0], '|', django.get_version())"
    versions = subprocess.run(
        [cell.executable, "-c", asked], capture_output=True, text=True, check=True
    ).stdout.strip()
    status, result = run(cell, tests)
    return Outcome(cell, versions, result, time.monotonic() - started, is_green=status == 0)


def install(cell: Cell, python: str) -> None:
    pins = ROOT / "requirements-dev.txt"
    if cell.is_next:
        pins = resolve(cell)
    if not cell.executable.exists():
        _uv("venv", "--quiet", "--python", python, str(cell.folder))
    _uv("pip", "sync", "--quiet", "--python", str(cell.executable), str(pins))


def resolve(cell: Cell) -> Path:
    """requirements-dev.in with the next Django, for this CPython; what fits stays as it is pinned."""
    folder = FOLDER / f"{cell.name}-requirements"
    folder.mkdir(parents=True, exist_ok=True)
    lifted, count = PINNED.subn(NEXT_DJANGO, (ROOT / "requirements.in").read_text())
    if count != 1:
        sys.exit(f"requirements.in no longer says {PINNED.pattern}")
    (folder / "requirements.in").write_text(lifted)
    shutil.copy(ROOT / "requirements-dev.in", folder)
    pins = folder / "requirements-dev.txt"
    shutil.copy(ROOT / "requirements-dev.txt", pins)
    _uv(
        "pip", "compile", "--quiet", "--python-version", cell.python,
        str(folder / "requirements-dev.in"), "--output-file", str(pins),
    )  # fmt: skip
    return pins


def run(cell: Cell, tests: list[str]) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "CI")}
    if unreachable_redis() is None:
        environment["TEST_REDIS_URL"] = REDIS_URL
    command = [
        str(cell.executable), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder",
        "-p", "no:cacheprovider", *(tests or SUITE),
    ]  # fmt: skip
    last = ""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    counts = re.findall(r"\d+ (?:passed|failed|errors?|skipped|deselected|warnings?)", last)
    return process.returncode, ", ".join(counts) or last


def _uv(*arguments: str) -> None:
    subprocess.run([str(UV), *arguments], cwd=ROOT, check=True, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
