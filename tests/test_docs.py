"""What the documents say is so: links lead somewhere, commands exist and are executed, alarms are listed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError

from tests import documents
from tests.documents import ROOT, Command

DOCUMENTS = documents.documents()
# Another's words, or a list of what others have.
FOREIGN = {"docs/aws-marketplace.md"}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

# --- What becomes of each command. What begins so is executed here, in a copy of the project …
EXECUTED_HERE = (
    "make help",
    "make docs",
    "make format",
    "manage.py check",
    "manage.py load_catalog",
    "manage.py consume_events --once",
    "manage.py marketplace_doctor",
    "manage.py verify_ledger",
    "manage.py verify_audit",
    "manage.py export_audit",
    "manage.py archive_usage",
    "manage.py verify_archive",
    "manage.py import_usage --help",
    "manage.py migrate",
)
# … or by another test or by CI …
EXECUTED_ELSEWHERE = {
    "make demo": "tests/test_fresh_clone.py",
    "make test": ".ci/run",
    "make prove": ".ci/run",
    "make coverage": ".ci/run",
    "make lint": ".ci/run",
    "make check-deploy": ".ci/run",
    "make rename": "tests/test_rename.py",
    "manage.py startapp renderings": "tests/test_first_product_page.py",
    "rm renderings/": "tests/test_first_product_page.py",
    "manage.py import_usage ": "tests/billing/test_import_usage.py",
    "manage.py import_usage_report": "tests/billing/test_usage_report_import.py",
    "manage.py marketplace_simulator": "tests/simulator/test_server.py",
    "manage.py consume_events": "tests/billing/test_consumer.py",
    "manage.py reset_mfa": "tests/billing/test_staff.py",
    "manage.py collectstatic": "tests/test_containers.py",
    "git": "tests/test_rename.py",
    "python -m pytest": "the tests run so",
}
# … or not at all, and why not.
NOT_EXECUTED = {
    "make run": "serves until it is stopped; its parts are those of make demo",
    "make bench": "minutes on an idle machine; tests/bench has tests of its own",
    "make load": "minutes on an idle machine",
    "make test-matrix": "a whole run of the tests for each Python",
    "make screenshots": "minutes of pictures for people to look at",
    "make messages": "tests/test_languages.py does the same in a copy",
    "make pins": "asks the package index",
    "python3 -m venv": "the Makefile does the same",
    "pip install": "the Makefile does the same",
    "manage.py createsuperuser": "asks for a password",
    "manage.py runserver": "serves until it is stopped",
    "manage.py dbshell": "for people",
    "docker": "no container engine is at hand in CI: docs/deployment.md says what was done by hand",
    "aws": "needs an AWS account",
    "curl": "needs the server that is being written about",
    "export": "sets what the next line needs",
    "cd": "changes the folder",
    "cp": "copies a file",
    "openssl": "makes a secret",
    "psql": "needs the database that is being written about",
    "pg_dump": "needs the database that is being written about",
    "pg_restore": "needs the database that is being written about",
    "createdb": "needs the server that is being written about",
    "gunicorn": "serves until it is stopped",
    "celery": "works until it is stopped",
    "apt-get": "changes the machine",
    "systemctl": "changes the machine",
}

EVERY_COMMAND = [
    command for page in DOCUMENTS if page.name != "CHANGELOG.md" for command in documents.commands_of(page)
]


def shortened(command: Command) -> str:
    """Without what stands before ``manage.py``, or before a program of the environment."""
    words = list(command.words)
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[0] in ("python", "python3") and len(words) > 1 and words[1] == "manage.py":
        words.pop(0)
    return " ".join(words)


def fate(command: Command) -> str:
    text = shortened(command)
    if text.startswith(EXECUTED_HERE):
        return "here"
    if any(text.startswith(beginning) for beginning in EXECUTED_ELSEWHERE):
        return "elsewhere"
    known = any(text == each or text.startswith(f"{each} ") for each in NOT_EXECUTED)
    return "not" if known else "unknown"


def test_the_documents_are_found():
    names = {str(page.relative_to(ROOT)) for page in DOCUMENTS}
    assert names > {"README.md", "AGENTS.md", "docs/getting-started.md", "docs/operations.md"}
    assert len(EVERY_COMMAND) > 30


def test_every_command_is_executed_or_listed_with_a_reason():
    assert [f"{each.document}: {each}" for each in EVERY_COMMAND if fate(each) == "unknown"] == []


def test_whatever_executes_a_command_elsewhere_is_there():
    for where in EXECUTED_ELSEWHERE.values():
        assert "." not in where or (ROOT / where).exists(), where


def test_every_target_of_make_exists_and_takes_what_it_is_given():
    for command in EVERY_COMMAND:
        if command.words[0] == "make":
            target, *values = command.words[1:]
            assert target in TARGETS, command
            for value in values:
                name = value.partition("=")[0]
                assert f"$({name})" in MAKEFILE or f"$${name}" in MAKEFILE, command


def test_every_target_of_make_says_what_it_is_for():
    said = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
    assert set(phony[1].split()) == TARGETS
    assert TARGETS - said == {"help"}


def test_every_management_command_takes_what_it_is_given():
    apps = get_commands()
    for command in EVERY_COMMAND:
        name, *arguments = shortened(command).removeprefix("manage.py ").split()
        if not shortened(command).startswith("manage.py ") or "--help" in arguments:
            continue
        assert name in apps, command
        parser = load_command_class(apps[name], name).create_parser("manage.py", name)
        try:
            parser.parse_args([word.strip("\"'") for word in command.words[command.words.index(name) + 1 :]])
        except CommandError as refused:
            pytest.fail(f"{command.document}: {command}: {refused}")


# --- Links and paths

_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```", re.DOTALL)
_NAMED = re.compile(r"`((?:[\w-]+/)+[\w.-]+\.(?:py|json|md|html|css|svg|yaml|yml))(?:::\w+)?`")
# What a fork makes by itself: the examples of the documents.
_EXAMPLES = ("renderings/", "reports/", "product/", "emails/")


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page):
    if str(page.relative_to(ROOT)) in FOREIGN:
        return
    for name in _NAMED.findall(page.read_text()):
        if not name.startswith(_EXAMPLES):
            assert (ROOT / name).exists() or (page.parent / name).exists(), name


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_documents_is_python(page):
    for _, text in documents.blocks(page, "python"):
        ast.parse(text)


# --- Alarms


def test_every_alarm_is_in_operations():
    page = re.sub(r"[`*]", "", (ROOT / "docs/operations.md").read_text())
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    missing = [f"{where}: {said}" for where, said in alarms() if not any(is_in(said, row) for row in rows)]
    assert missing == []


def is_in(said: str, row: str) -> bool:
    """Whether ``row`` quotes what stands between the figures of a line."""
    pieces = [piece.strip(" :.,()") for piece in re.split(r"%[\w.]+|\. ", said.replace("`", ""))]
    telling = [piece for piece in pieces if len(piece) > 12] or [max(pieces, key=len)]
    return any(piece[:60] in row for piece in telling)


def alarms() -> Iterator[tuple[str, str]]:
    for folder in ("accounts", "billing", documents.PACKAGE):
        for path in sorted((ROOT / folder).rglob("*.py")):
            where = str(path.relative_to(ROOT))
            if "simulator" in where or "/demo/" in where or path.name.startswith("test_"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id="logger"), attr=level), args=[*given]):
                        if level in ("error", "critical", "exception", "log"):
                            yield f"{where}:{node.lineno}", ast.literal_eval(given[level == "log"])


def test_the_walk_finds_alarms():
    assert len(list(alarms())) > 30


# --- Executed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_of_the_documents_work(tmp_path, simulator):
    project = documents.copy_of_the_project(tmp_path / "project")
    values = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    values |= {"ENV_FILE": "", "DEBUG": "true", "PYTHONDONTWRITEBYTECODE": "1", **simulator.endpoint_env}
    values |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    values["MARKETPLACE_EVENT_QUEUES"] = f"{simulator.url}/000000000000/marketplace-events"
    values["USAGE_ARCHIVE_DIR"] = str(tmp_path)
    (project / "november.csv").write_text("")

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            words, cwd=project, env=values, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    assert run(".venv/bin/python", "manage.py", "migrate", "--verbosity=0")[0] == 0
    assert run(".venv/bin/python", "manage.py", "load_catalog")[0] == 0
    chosen = {shortened(each): each for each in EVERY_COMMAND if fate(each) == "here"}
    assert len(chosen) > 8
    for text, command in chosen.items():
        words = list(command.words)
        if words[0] == "make":
            words.insert(1, "--old-file=.venv/dev")
        if words[0] == "manage.py":
            words.insert(0, ".venv/bin/python")
        if any(word.startswith(("l-", "--invoice", "--agreement")) for word in words):
            continue  # needs a purchase: tests/billing/test_verify_ledger.py
        status, told = run(*words)
        # A doctor finds faults in a place without workers, mail and a listing. That it looks is enough here.
        assert status == 0 or (text.startswith("manage.py marketplace_doctor") and status == 1), told
        assert "Traceback" not in told, told
