"""Imports point one way. What this finds, a reader never has to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECTS = ("accounts", "billing", "marketplace_saas")

# Lower may not import higher. What is not named here is a flow.
LAYERS = {"models": 0, "aws": 0, "flows": 1, "edges": 2}
EDGES = {
    "views", "tasks", "admin", "management", "accounts_adapter", "urls", "forms", "templatetags",
    "arrivals", "checks", "apps", "error_reports", "doctor",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    path: Path
    line: int
    module: str
    in_function: str | None

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def sources(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path.relative_to(ROOT) for path in found if "migrations" not in path.parts]


def names_of(path: Path) -> set[str]:
    """The dotted names that are modules of ours."""
    parts = path.with_suffix("").parts
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts)}


MODULES = {name for path in sources(*PROJECTS) for name in names_of(path)}


def imports(path: Path) -> Iterator[Import]:
    yield from _walk(ast.parse((ROOT / path).read_text()), path, None)


def _walk(node: ast.AST, path: Path, function: str | None) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(path, child.lineno, alias.name, function)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                base = _absolute(child, path)
                whole = f"{base}.{alias.name}"
                yield Import(path, child.lineno, whole if whole in MODULES else base, function)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, path, child.name)
        else:
            yield from _walk(child, path, function)


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    package = path.parts[: len(path.parts) - node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def is_test(path: Path) -> bool:
    return path.name.startswith("test_") or path.name == "pytest_plugin.py"


def layer(module: str) -> str:
    part = module.split(".")[1] if "." in module else "apps"
    if part in ("models", "aws"):
        return part
    return "edges" if part in EDGES else "flows"


def broken(paths: list[Path], allowed) -> list[str]:
    return [str(found) for path in paths for found in imports(path) if not allowed(found)]


def top(module: str) -> str:
    return module.partition(".")[0]


def test_the_walk_sees_what_it_must():
    seen = {found.module for found in imports(Path("billing/submission.py"))}
    assert {"billing.leases", "billing.aws.errors", "billing.sending.batches", "django.conf"} <= seen
    assert len(MODULES) > 60


def test_projects_import_one_way():
    order = {"accounts": 0, "billing": 1, "marketplace_saas": 2}
    assert broken(
        [path for path in sources(*PROJECTS) if not is_test(path)],
        lambda found: order.get(top(found.module), -1) <= order[found.path.parts[0]],
    ) == []  # fmt: skip


def test_accounts_knows_nothing_of_aws_or_money():
    assert broken(
        sources("accounts"), lambda found: top(found.module) not in ("billing", "boto3", "botocore")
    ) == []  # fmt: skip


def test_inside_billing_views_tasks_and_admin_call_flows_and_flows_use_models_and_aws():
    def downwards(found: Import) -> bool:
        if top(found.module) != "billing" or found.module.startswith("billing.simulator"):
            return True
        (importer,) = names_of(found.path)
        return LAYERS[layer(found.module)] <= LAYERS[layer(importer)]

    paths = [path for path in sources("billing") if "simulator" not in path.parts]
    assert broken(paths, downwards) == []


def test_aws_is_a_leaf():
    def within(found: Import) -> bool:
        return top(found.module) not in PROJECTS or found.module.startswith("billing.aws")

    assert broken(sources("billing/aws"), within) == []
    models = broken(sources("billing/models"), lambda found: not found.module.startswith("billing.aws"))
    assert models == []


def test_the_simulator_is_aws_and_not_us():
    def within(found: Import) -> bool:
        return top(found.module) not in PROJECTS or found.module.startswith("billing.simulator")

    assert broken(sources("billing/simulator"), within) == []


def test_only_the_management_command_starts_the_simulator():
    paths = [path for path in sources(*PROJECTS) if "simulator" not in path.parts and not is_test(path)]
    importers = {
        str(found.path) for path in paths for found in imports(path) if "billing.simulator" in found.module
    }
    assert all(importer.startswith(("billing/management/", "marketplace_saas/")) for importer in importers)
    assert "marketplace_saas/settings.py" not in importers


def test_only_the_client_imports_the_aws_sdk():
    paths = [path for path in sources(*PROJECTS) if not is_test(path)]
    importers = {
        str(found.path)
        for path in paths
        for found in imports(path)
        if top(found.module) in ("boto3", "botocore", "s3transfer")
    }
    assert importers == {"billing/aws/client.py"}


def test_imports_stand_at_the_top_of_their_file():
    # AppConfig.ready runs when models can be imported, which is after its own module.
    allowed = {(Path("billing/apps.py"), "ready"), (Path("accounts/apps.py"), "ready")}
    inside = [
        f"{found} in {found.in_function}()"
        for path in sources(*PROJECTS)
        for found in imports(path)
        if found.in_function is not None and (found.path, found.in_function) not in allowed
    ]
    assert inside == []


# The two that name the settings module before Django starts, and the demo, which starts other processes.
_ENVIRONMENT = re.compile(r"\bos\.(environ|getenv)\b")
STARTERS = {"marketplace_saas/asgi.py", "marketplace_saas/wsgi.py", "marketplace_saas/celery.py"}


def test_only_the_settings_read_the_environment():
    readers = {
        str(path)
        for path in sources(*PROJECTS)
        if not is_test(path) and _ENVIRONMENT.search((ROOT / path).read_text())
    }
    assert {reader for reader in readers if "demo" not in reader} - STARTERS == {
        "marketplace_saas/settings.py"
    }
    for starter in STARTERS:
        text = (ROOT / starter).read_text()
        assert _ENVIRONMENT.findall(text) == ["environ"]
        assert 'os.environ.setdefault("DJANGO_SETTINGS_MODULE"' in text


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("from billing import views", "billing.views"),
        ("import billing.tasks", "billing.tasks"),
        ("from . import admin", "billing.admin"),
        ("from .views import welcome", "billing.views.welcome"),
        ("def f():\n    from billing import views", "billing.views"),
        ("if x:\n    import boto3", "boto3"),
    ],
)
def test_no_way_of_importing_escapes_the_walk(text, module):
    found = list(_walk(ast.parse(text), Path("billing/metering.py"), None))
    assert [one.module for one in found] == [module]
