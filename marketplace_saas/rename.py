"""`make rename NAME=acme TITLE="Acme"`: a fork takes a name of its own. Needs no Django, and runs once.

Every text of the project is changed, tests and docs too, but for what speaks of the template itself.
"""

from __future__ import annotations

import keyword
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

TEMPLATE = "marketplace_saas"
TEMPLATE_TITLE = "Acme Reports"

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
# The licence names its authors; the others tell of the template by its name.
UNTOUCHED = {"LICENSE", "docs/upgrading.md", f"{TEMPLATE}/rename.py"}
# The tests and the docs have an example seller of their own, so that a brand is in nobody's way.
_WITHOUT_BRAND = ("tests/", "docs/")
_WITH_BRAND = "docs/configuration.md"  # made from the settings
# Apps that Django and allauth call so: there cannot be two of one label.
TAKEN_LABELS = {
    "account", "admin", "auth", "contenttypes", "csp", "github", "google", "humanize", "messages", "mfa",
    "microsoft", "sessions", "socialaccount", "staticfiles", "unfold", "usersessions",
}  # fmt: skip
_LONGEST = 30
_TITLE = re.compile(r"[^\W_][\w .,+\-]{0,39}")


class Refused(Exception):
    """The text says why, and what to do."""


def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(prog="make rename", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--title", default="")
    parser.add_argument("--force", action="store_true", help="with changes that are not committed")
    options = parser.parse_args(arguments)
    name, title = options.name.strip(), options.title.strip()
    try:
        if name and name == PACKAGE.name:
            print(f"This project is called {name} already: nothing was changed.")
            return 0
        if PACKAGE.name != TEMPLATE:
            raise Refused(f"This project has been renamed to {PACKAGE.name}. A second name is given by hand.")
        title = title or name.replace("_", " ").title()
        check_name(name)
        check_title(title)
        _check_tree(is_forced=options.force)
        changed = rename(name, title)
    except Refused as refused:
        print(f"make rename: {refused}", file=sys.stderr)
        return 2
    print(
        f"{TEMPLATE} is now {name}, sold as {title}: {changed} files changed. Look with `git diff HEAD`, then"
    )
    print("run `make lint` and `make test`, and commit. docs/getting-started.md goes on from here.")
    return 0


def check_name(name: str) -> None:
    """Raise Refused unless a package of the project can be called so."""
    if not name:
        raise Refused('give a name: make rename NAME=acme TITLE="Acme"')
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name) or len(name) > _LONGEST:
        raise Refused(
            f"{name!r} is no name for a package: lower-case letters, digits and _, 2 to {_LONGEST} of them, "
            "beginning with a letter"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise Refused(f"{name!r} is a word of Python's own")
    if name in sys.stdlib_module_names:
        raise Refused(f"{name!r} is a module of Python's standard library")
    if any(path.stem.lower() == name for path in ROOT.iterdir() if not _is_left_over(path)):
        raise Refused(f"{name!r} is here already: {ROOT / name}")
    if name in TAKEN_LABELS or find_spec(name) is not None:
        raise Refused(f"{name!r} is a package that this project uses")


def _is_left_over(path: Path) -> bool:
    """What Python compiled of a package that git took away: `git rm` leaves its folder there."""
    return path.is_dir() and all(file.suffix == ".pyc" for file in path.rglob("*") if not file.is_dir())


def check_title(title: str) -> None:
    """It is written into Python, JSON and shell files as it is."""
    if not _TITLE.fullmatch(title):
        raise Refused(
            f"{title!r} cannot be the title: up to 40 letters, digits, spaces and . , + - are fine. "
            "SITE_NAME in the environment takes any other"
        )


def _check_tree(*, is_forced: bool) -> None:
    if not (ROOT / ".git").exists():
        raise Refused("this is no git repository, so nothing could be undone: git init, add, commit, again")
    if _git("status", "--porcelain") and not is_forced:
        raise Refused("there are changes that are not committed. Commit them, or say FORCE=1")


def rename(name: str, title: str) -> int:
    """Change every text, then move the package. Returns how many files were changed."""
    changed = sum(_rewrite(path, name=name, title=title) for path in _files())
    if (ROOT / name).exists():
        shutil.rmtree(ROOT / name)  # see _is_left_over
    PACKAGE.rename(ROOT / name)
    # Git must know the new folder: `git commit --all` leaves out what it does not.
    _git("add", "--all", "--", TEMPLATE, name)
    return changed


def _files() -> Iterator[str]:
    yield from filter(None, _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"))
    yield ".env"  # which git does not know


def _rewrite(path: str, *, name: str, title: str) -> bool:
    file = ROOT / path
    if path in UNTOUCHED or not file.is_file() or file.is_symlink():
        return False
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError:  # a picture, or compiled translations
        return False
    new = text.replace(TEMPLATE, name).replace(TEMPLATE.replace("_", "-"), name.replace("_", "-"))
    if not path.startswith(_WITHOUT_BRAND) or path == _WITH_BRAND:
        new = new.replace(TEMPLATE_TITLE, title)
    if new == text:
        return False
    file.write_bytes(new.encode())
    return True


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
