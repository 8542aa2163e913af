"""What the documents of the project say, in pieces: their blocks of code, commands and links."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from django.conf import settings

ROOT = Path(settings.BASE_DIR)
PACKAGE = settings.ROOT_URLCONF.partition(".")[0]
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# The path of a file is the first line of its block: # renderings/views.py or {# templates/… #}.
_PATH = re.compile(r"\A(?:#|\{#) ([\w./-]+\.\w+)(?: #\})?\n")


@dataclass(frozen=True, slots=True)
class Command:
    """A line that a reader may type. ``words`` has no variables set before it, and no comment."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def documents() -> list[Path]:
    """Every page of ours, as it is in git or about to be."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])


def blocks(document: Path, *languages: str) -> Iterator[tuple[str, str]]:
    for _, language, text in _BLOCK.findall(document.read_text()):
        if not languages or language in languages:
            yield language, dedent(text)  # a block may stand in a list


def files_of(document: Path) -> dict[str, str]:
    """The whole files that it gives, by path."""
    found: dict[str, str] = {}
    for _, text in blocks(document, "python", "django"):
        if path := _PATH.match(text):
            found[path[1]] = text.removeprefix(path[0])
    return found


def commands_of(document: Path) -> Iterator[Command]:
    """Lines of ``sh`` blocks, and those that follow a $ in ``console`` blocks. Pipes and && part them."""
    name = str(document.relative_to(ROOT))
    for language, text in blocks(document, "sh", "console"):
        lines = text.replace("\\\n", " ").splitlines()
        if language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("|;&"):
                    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                        words.pop(0)
                    if words:
                        yield Command(name, tuple(words))
                    words = []
                else:
                    words.append(word)


def apply_changes(document: Path, root: Path) -> None:
    """Make what its ``diff`` blocks show: lines below ``--- path``, parted by ``@@``."""
    for _, text in blocks(document, "diff"):
        for part in re.split(r"^--- ", text, flags=re.MULTILINE)[1:]:
            path, _, changes = part.partition("\n")
            file = root / path
            for hunk in re.split(r"^@@\n", changes, flags=re.MULTILINE):
                lines = hunk.splitlines(keepends=True)
                before = "".join(line[1:] for line in lines if line[0] in " -")
                after = "".join(line[1:] for line in lines if line[0] in " +")
                content = file.read_text()
                assert content.count(before) == 1, f"{document.name}: {path} has not once:\n{before}"
                file.write_text(content.replace(before, after))


def copy_of_the_project(folder: Path, *, with_git: bool = False) -> Path:
    """The tree as it is, what git ignores left out, with this Python's packages as its .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    if with_git:
        git(folder, "init", "--quiet", "--initial-branch=main")
        # A link is no folder to .gitignore's ".venv/".
        (folder / ".git/info/exclude").write_text(".venv\n")
        commit(folder, "Begin")
    return folder


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Fork", "-c", "user.email=fork@example.com"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout
