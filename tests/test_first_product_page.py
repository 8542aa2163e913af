"""docs/first-product-page.md and README.md lead to a page that works: what they say is executed."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import documents
from tests.documents import ROOT

GUIDE = ROOT / "docs/first-product-page.md"
# Done otherwise here, and why.
LEFT_OUT = {
    ("make", "lint"): "ruff and djade are run below; types take a minute and CI has them",
    ("make", "run"): "serves until it is stopped",
}
# The README gives a view and its template. Its urls and its proof are these.
URLS = """\
from django.urls import path

from renderings import views

app_name = "renderings"

urlpatterns = [path("", views.rendering, name="page")]
"""
PROOF = """\
def test_the_view_of_the_readme_counts_a_rendering_once(client, acme, acme_member, purchase):
    purchase("reports-payg")
    client.force_login(acme_member)
    for _ in range(2):
        page = client.post(f"/o/{acme.slug}/renderings/", {"id": "42"})
        assert "Render</button>" in page.content.decode()
    assert [use.quantity for use in acme.usage_events.all()] == [3]
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_guide_and_the_readme_lead_to_a_page_that_works(tmp_path):
    project = documents.copy_of_the_project(tmp_path / "project")
    commands = list(documents.commands_of(GUIDE))
    assert len(commands) > 3
    first, *later = [each for each in commands if each.words not in LEFT_OUT]
    ran(project, *first.words)
    ran(project, *later.pop(0).words)

    written = {**documents.files_of(ROOT / "README.md"), "renderings/urls.py": URLS}
    write(project, {**written, "renderings/test_renderings.py": PROOF})
    documents.apply_changes(GUIDE, project)
    assert "1 passed" in ran(project, ".venv/bin/python", "-m", "pytest", "-q", "-n", "0", "renderings")

    files = documents.files_of(GUIDE)
    assert set(files) > set(documents.files_of(ROOT / "README.md"))
    write(project, files)
    for command in later:
        told = ran(project, *command.words)
        assert " passed" in told or "pytest" not in command.words
    # It keeps the rules of the project.
    ran(project, ".venv/bin/ruff", "check", "renderings", *files_in(files, ".py"))
    ran(project, ".venv/bin/ruff", "format", "--check", "renderings")
    ran(project, ".venv/bin/djade", "--check", *files_in(files, ".html"))
    ran(project, ".venv/bin/python", "manage.py", "makemigrations", "--check", "--dry-run")
    kept = ["tests/test_architecture.py", "tests/test_containers.py"]
    ran(project, ".venv/bin/python", "-m", "pytest", "-q", "-n", "0", "-m", "not slow", *kept)


def files_in(files, ending):
    return [name for name in files if name.endswith(ending)]


def write(project, files):
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


def ran(project, *command):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATA_DIR", "COVERAGE_FILE", "DATABASE_URL", "DJANGO_SETTINGS_MODULE")
    }
    environment |= {"ENV_FILE": "", "DEBUG": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
    return done.stdout
