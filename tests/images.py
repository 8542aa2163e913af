"""The Dockerfile and compose.yaml as data, and the image's layout made of this working tree."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from django.conf import settings
from ruamel.yaml import YAML

ROOT: Path = settings.BASE_DIR


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The command, as it is executed: a list is itself, a text is a shell's."""
        return json.loads(self.text) if self.text.startswith("[") else ["sh", "-c", self.text]


def stages() -> list[list[Instruction]]:
    """Of the Dockerfile, each from its FROM on."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: list[list[Instruction]] = []
    for text in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not text.strip():
            continue
        name, _, rest = text.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, rest.strip()))
    return found


def instruction(stage: list[Instruction], name: str) -> Instruction:
    (found,) = [each for each in stage if each.name == name]
    return found


def health_check(stage: list[Instruction]) -> list[str]:
    return Instruction("CMD", instruction(stage, "HEALTHCHECK").text.partition("CMD ")[2]).words


def environment(stage: list[Instruction]) -> dict[str, str]:
    pairs = (word.partition("=") for word in shlex.split(instruction(stage, "ENV").text))
    return {name: value for name, _, value in pairs}


def compose() -> dict[str, Any]:
    """compose.yaml, its merges done."""
    return YAML(typ="safe").load((ROOT / "compose.yaml").read_text())


def env_file(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def interpolated(text: str, values: dict[str, str]) -> str:
    """As compose reads it: ``${NAME:-default}``, ``${NAME:?message}``, ``$$``."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.group(1), match.group(2), match.group(3)
        if values.get(name):
            return values[name]
        assert kind == ":-", f"{name} must be set"
        return rest

    return re.sub(r"\$\{(\w+)(:-|:\?)([^}]*)\}", value, text).replace("$$", "$")


def command(service: str, values: dict[str, str]) -> list[str]:
    return [interpolated(word, values) for word in compose()["services"][service]["command"]]


def copied() -> list[tuple[str, str]]:
    """What the build takes from the working tree, and where it goes."""
    words = (each.text.split() for each in stages()[0] if each.name == "COPY")
    return [(source, target) for source, target in words]


def lay_out(folder: Path) -> Path:
    """/app as the image has it, but for what .dockerignore leaves out."""
    app = folder / "app"
    app.mkdir()
    for source, target in copied():
        where = folder / target.lstrip("/") if target.startswith("/") else app / target
        where.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, where, ignore=shutil.ignore_patterns(*left_out()))
        else:
            shutil.copy(ROOT / source, where / Path(source).name if target.endswith("/") else where)
    return app


def left_out() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("**/") for line in lines if line.startswith("**/")]


def is_let_in(source: str) -> bool:
    """Whether .dockerignore, whose last fitting line counts, lets it into the build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    verdict = True
    for line in lines:
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch(source, pattern):
            verdict = line.startswith("!")
    return verdict
