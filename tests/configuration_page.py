"""`make docs`: docs/configuration.md, from what .env.example says and what the settings read.

Only what stands between the two marks is written; the rest of the page is edited by hand.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from tests.documents import PACKAGE, ROOT

PAGE = ROOT / "docs/configuration.md"
BEGIN, END = "<!-- Written by `make docs` from here -->", "<!-- to here -->"

# Read from the environment by others than the settings, so that their defaults are not in settings.py.
READ_BY_OTHERS = {
    "WEB_PORT": "Procfile",
    "SIMULATOR_PORT": "Procfile",
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING": "botocore",
    "AWS_ENDPOINT_URL_MARKETPLACE_ENTITLEMENT_SERVICE": "botocore",
    "AWS_ENDPOINT_URL_MARKETPLACE_AGREEMENT": "botocore",
    "AWS_ENDPOINT_URL_SQS": "botocore",
    "AWS_ENDPOINT_URL_STS": "botocore",
    "AWS_ENDPOINT_URL_EVENTBRIDGE": "botocore",
    "AWS_DEFAULT_REGION": "botocore",
    "AWS_ACCESS_KEY_ID": "botocore",
    "AWS_SECRET_ACCESS_KEY": "botocore",
}
_KINDS = {
    "str": "text", "bool": "true or false", "int": "number", "float": "number", "list": "list",
    "db": "URL", "email": "URL",
}  # fmt: skip
# Defaults that are no literal, in words.
_IN_WORDS = {
    "production.DEVELOPMENT_SECRET": "one that production refuses",
    "['localhost', '127.0.0.1'] if DEBUG else []": "`localhost,127.0.0.1` with `DEBUG`, else none",
    f"str(BASE_DIR / '{PACKAGE}/catalog.json')": f"`{PACKAGE}/catalog.json`",
    "f\"sqlite:///{DATA_DIR / 'db.sqlite3'}\"": "SQLite in `DATA_DIR`",
    "str(DATA_DIR / 'usage-archive') if DEBUG else ''": "a folder in `DATA_DIR` with `DEBUG`, else none",
    "production.EXAMPLE_SUPPORT_EMAIL": "one that production refuses",
    "SUPPORT_EMAIL": "`SUPPORT_EMAIL`",
    "_https": "true if `SITE_URL` is https",
    "31536000 if _https else 0": "a year if `SITE_URL` is https",
    "'line' if DEBUG else 'json'": "`line` with `DEBUG`, else `json`",
}


@dataclass(frozen=True, slots=True)
class Read:
    """A variable as settings.py reads it."""

    kind: str
    default: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A variable as .env.example lists it: under which heading, and what is said of it."""

    name: str
    section: str
    words: str


@cache
def read_by_settings() -> dict[str, Read]:
    found: dict[str, Read] = {}
    for node in ast.walk(ast.parse((ROOT / PACKAGE / "settings.py").read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env"), attr=kind),
                args=[ast.Constant(value=str(name)), *others],
                keywords=keywords,
            ):
                defaults = [each.value for each in keywords if each.arg == "default"] or others
                # A variable that is read twice has its default where it is read for good.
                known = found.get(name)
                if known is None or _KINDS[kind] == "URL":
                    found[name] = Read(_KINDS[kind], _said(defaults[0]) if defaults else "none")
    return found


def _said(default: ast.expr) -> str:
    try:
        value = ast.literal_eval(default)
    except ValueError:
        written_so = {ast.dump(ast.parse(text, mode="eval").body): words for text, words in _IN_WORDS.items()}
        return written_so.get(ast.dump(default), "worked out in settings.py")
    if value in ("", [], None):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def listed_in_example() -> list[Listed]:
    """In their order. A comment speaks of every variable up to the next comment."""
    found: list[Listed] = []
    section, words, is_in_comment = "", "", False
    for line in (ROOT / ".env.example").read_text().splitlines():
        if heading := re.match(r"# --- (.+?) -+$", line):
            section, words, is_in_comment = heading[1], "", False
        elif variable := re.match(r"#?([A-Z][A-Z0-9_]*)=", line):
            found.append(Listed(variable[1], section, words))
            is_in_comment = False
        elif comment := re.match(r"# (.+)$", line):
            words = f"{words} {comment[1]}" if is_in_comment else comment[1]
            is_in_comment = True
        else:
            words, is_in_comment = "", False
    return found


def written() -> str:
    lines, section = [], ""
    for (of, words, kind, default), each in groupby(listed_in_example(), key=_row):
        if of != section:
            section = of
            lines += [
                "",
                f"### {of}",
                "",
                "| Variable | Is | Default | Meaning |",
                "| --- | --- | --- | --- |",
            ]
        names = ", ".join(f"`{variable.name}`" for variable in each)
        lines.append(f"| {names} | {kind} | {default} | {_in_a_cell(words)} |")
    return "\n".join([BEGIN, *lines, "", END])


def _row(variable: Listed) -> tuple[str, str, str, str]:
    """What neighbours share that one comment speaks of."""
    known = read_by_settings().get(variable.name)
    kind = known.kind if known else f"for {READ_BY_OTHERS[variable.name]}"
    return variable.section, variable.words, kind, known.default if known else "–"


def _in_a_cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


def current(page: str) -> str:
    """``page`` with its written part as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"{PAGE} has lost the marks of its written part"
    return before + written() + after


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
