"""`make rename` makes the template a product of its own, and later versions still merge."""

from __future__ import annotations

import os
import subprocess

import pytest
from django.apps import apps

from marketplace_saas import rename
from tests import documents
from tests.documents import ROOT, commit, git

IS_TEMPLATE = rename.PACKAGE.name == rename.TEMPLATE
GUIDE = ROOT / "docs/upgrading.md"
BEGINNING = ROOT / "docs/getting-started.md"
# The packages are those of the tests, however new the copied requirements look.
MAKE = ["make", "--old-file=.venv/dev"]
# What touches every part that a name runs through.
SUBSET = [
    "tests/test_settings.py", "tests/test_architecture.py", "tests/test_production.py", "tests/test_pages.py",
    "tests/test_docs.py", "tests/test_mail_previews.py", "tests/test_rename.py",
    "tests/billing/test_catalog.py", "tests/billing/test_tasks.py", "tests/billing/test_mails.py",
    "tests/accounts/test_social.py", "tests/accounts/test_invitation_link.py",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "give a name"),
        ("Acme", "is no name for a package"),
        ("acme-app", "is no name for a package"),
        ("acme app", "is no name for a package"),
        ("2acme", "is no name for a package"),
        ("acmé", "is no name for a package"),
        ("../acme", "is no name for a package"),
        ("acme_", "is no name for a package"),
        ("a" * 31, "is no name for a package"),
        ("class", "Python's own"),
        ("match", "Python's own"),
        ("email", "standard library"),
        ("django", "a package that this project uses"),
        ("celery", "a package that this project uses"),
        ("admin", "a package that this project uses"),
        ("billing", "is here already"),
        ("readme", "is here already"),
        ("manage", "is here already"),
    ],
)
def test_a_name_that_would_break_something_is_refused(name, why):
    with pytest.raises(rename.Refused, match=why):
        rename.check_name(name)


@pytest.mark.parametrize("name", ["acme_reports", "x2", "saas4u", "a" * 30])
def test_other_names_are_fine(name):
    rename.check_name(name)


@pytest.mark.parametrize(
    "title", ["", '"', "A" * 41, "Ben & Co", "<b>", "a\nb", "$HOME", "it's", "{x}", " a"]
)
def test_a_title_that_would_break_a_file_is_refused(title):
    with pytest.raises(rename.Refused, match="cannot be the title"):
        rename.check_title(title)


@pytest.mark.parametrize("title", ["Acme", "Ærø 2.0", "한국 보고서", "A-B + C"])
def test_other_titles_are_fine(title):
    rename.check_title(title)


def test_no_name_takes_the_label_of_another_app():
    labels = {config.label for config in apps.get_app_configs()}
    assert labels - {"accounts", "billing", rename.PACKAGE.name} - rename.TAKEN_LABELS == {"allauth"}


def test_the_name_that_it_has_changes_nothing(capsys):
    assert rename.main(["--name", rename.PACKAGE.name]) == 0
    assert "already" in capsys.readouterr().out


if IS_TEMPLATE:

    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_a_renamed_copy_is_whole(tmp_path):
        project = documents.copy_of_the_project(tmp_path / "project", with_git=True)
        (project / "notes.txt").write_text("not committed")
        assert "FORCE=1" in refused(project, "NAME=acme")
        (project / "notes.txt").unlink()

        told = ran(project, *MAKE, "rename", "NAME=acme", "TITLE=Acme")
        assert "marketplace_saas is now acme, sold as Acme" in told
        assert "nothing was changed" in ran(project, *MAKE, "rename", "NAME=acme", "TITLE=Acme")
        assert "has been renamed to acme" in refused(project, "NAME=widgets")

        git(project, "add", "--all")
        names = rename.TEMPLATE.replace("_", ".")  # as a package, and as a host or a stack
        left = git(project, "grep", "--cached", "-I", "--files-with-matches", names).split()
        assert set(left) == {"LICENSE", "acme/rename.py", "docs/upgrading.md"}
        assert not (project / "marketplace_saas").exists()
        assert 'default="Acme"' in (project / "acme/settings.py").read_text()
        assert "Acme Flex" in (project / "acme/catalog.json").read_text()
        commit(project, "Rename")

        ran(project, ".venv/bin/ruff", "check", "acme", "tests", "manage.py", "--select", "I,F")
        ran(project, ".venv/bin/ruff", "format", "--check", ".")
        ran(project, ".venv/bin/python", "manage.py", "makemigrations", "--check", "--dry-run")
        ran(project, ".venv/bin/celery", "-A", "acme", "report")
        tests = [
            ".venv/bin/python",
            "-m",
            "pytest",
            "-q",
            "-n",
            "2",
            "--dist",
            "loadfile",
            "-p",
            "no:cacheprovider",
        ]
        assert " passed" in ran(project, *tests, "-m", "not slow and not browser", *SUBSET, "acme")

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_later_versions_come_in_as_the_guide_says(tmp_path):
        template = documents.copy_of_the_project(tmp_path / "template", with_git=True)
        fork = tmp_path / "fork"
        git(tmp_path, "clone", "--quiet", str(template), str(fork))
        (fork / ".venv").symlink_to(template / ".venv")
        (fork / ".git/info/exclude").write_text(".venv\n")
        (begin,) = (lines for lines in commands(BEGINNING) if lines[0].startswith("make rename"))
        for command in begin:
            if command != "make lint":
                typed(fork, command)
        assert git(fork, "status", "--porcelain") == ""
        assert git(fork, "ls-files", "acme/settings.py", "marketplace_saas").split() == ["acme/settings.py"]
        first, later = commands(GUIDE)
        for command in first:
            typed(fork, command.replace("https://example.com/the/template.git", str(template)))
        # The fork grows a product, and changes a file of the template's.
        change(
            fork / "acme/urls.py",
            '    path("healthz"',
            '    path("reports/", views.home),\n    path("healthz"',
        )
        (fork / "product").mkdir()
        (fork / "product/__init__.py").touch()
        commit(fork, "Grow")
        # The template grows too: a module that its settings name, and a line near the fork's.
        (template / "marketplace_saas/novelty.py").write_text("from marketplace_saas import views\n")
        change(
            template / "marketplace_saas/urls.py",
            '    path("readyz"',
            '    path("new", views.home),\n    path("readyz"',
        )
        change(
            template / "marketplace_saas/settings.py",
            'TIME_ZONE = "UTC"',
            'TIME_ZONE = "UTC"\nNOVELTY = "marketplace_saas.novelty"',
        )
        commit(template, "A later version")

        # It has run, too: git leaves alone what Python compiled.
        (fork / "acme/__pycache__").mkdir(exist_ok=True)
        (fork / "acme/__pycache__/views.cpython-311.pyc").touch()
        for command in later:
            typed(fork, command)

        assert not (fork / "marketplace_saas").exists()
        assert (fork / "acme/novelty.py").read_text() == "from acme import views\n"
        assert 'NOVELTY = "acme.novelty"' in (fork / "acme/settings.py").read_text()
        urls = (fork / "acme/urls.py").read_text()
        assert 'path("reports/"' in urls
        assert 'path("new"' in urls
        assert (fork / "product/__init__.py").exists()
        assert git(fork, "status", "--porcelain") == ""


def commands(page):
    return [
        [line.partition("  #")[0].strip() for line in text.splitlines() if line]
        for _, text in documents.blocks(page, "sh")
    ]


def change(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def typed(folder, line):
    """As a reader types it; whoever commits is named."""
    who = {"GIT_AUTHOR_NAME": "Fork", "GIT_AUTHOR_EMAIL": "fork@example.com"}
    who |= {"GIT_COMMITTER_NAME": "Fork", "GIT_COMMITTER_EMAIL": "fork@example.com"}
    ran(folder, "bash", "-ec", line.replace("make ", f"{' '.join(MAKE)} "), **who)


def refused(folder, *arguments):
    done = make(folder, "rename", *arguments)
    assert done.returncode != 0
    return done.stdout + done.stderr


def ran(folder, *command, **more):
    done = subprocess.run(
        command, cwd=folder, env=environment() | more, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-5000:]}{done.stderr[-3000:]}"
    return done.stdout


def make(folder, *arguments):
    return subprocess.run(
        [*MAKE, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def environment():
    own = ("DATA_DIR", "COVERAGE_FILE", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "NAME", "TITLE")
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return kept | {"ENV_FILE": "", "DEBUG": "true", "PYTHONDONTWRITEBYTECODE": "1"}
