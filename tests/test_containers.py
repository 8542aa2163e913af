"""The image and compose.yaml: sound by their own tools, and each of their commands does what it should.

No container engine is needed: the commands are run in the layout that the image has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import requests

from marketplace_saas import serving
from tests import images
from tests.journeys.processes import answers, free_port, running, until

BIN = Path(sys.executable).parent
DATABASE = "test_marketplace_saas_containers"
PROXIED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9", "Host": "app.example.com"}
OURS = ["web", "worker", "beat", "events", "migrate", "simulator"]


def check(*command: str) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=images.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_keeps_to_the_published_schema():
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_the_linter_finds_nothing_in_the_dockerfile():
    check("hadolint", "--failure-threshold", "style", "Dockerfile")


def test_the_image_runs_as_nobody_and_holds_nothing_to_build_with():
    build, final = images.stages()
    assert images.instruction(final, "USER").text.isdigit()
    assert not [each for each in final if re.search(r"\b(apt|apt-get|pip|gcc|git|curl)\b", each.text)]
    assert [each.text for each in final if each.name == "COPY"] == [
        "--from=build /venv /venv",
        "--from=build /app /app",
    ]
    assert images.instruction(build, "FROM").text.split()[0] == images.instruction(final, "FROM").text


def test_the_build_is_given_what_it_copies_and_no_more():
    assert [source for source, _ in images.copied() if not images.is_let_in(source)] == []
    for secret in (".env", ".git", "deploy/production.env", ".run", "tests", "docs"):
        assert not images.is_let_in(secret), secret


def test_what_the_image_installs_has_a_server_and_no_test_tools():
    pinned = (images.ROOT / "requirements.txt").read_text()
    assert re.search(r"^gunicorn==", pinned, re.MULTILINE)
    assert not re.search(r"^(pytest|mypy|ruff|hadolint|sentry)", pinned, re.MULTILINE)


def test_everything_starts_after_what_it_needs():
    services = images.compose()["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[needed]["healthcheck"]["test"], (name, needed)
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[needed]["restart"] == "no"
    for name in ("web", "worker", "beat", "events"):
        assert set(services[name]["depends_on"]) == {"migrate", "db", "redis"}


def test_nothing_is_open_to_other_machines_and_nothing_may_do_more_than_it_must():
    services = images.compose()["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert re.search(r":\w+|^marketplace-saas$", service["image"]), name
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    assert services["simulator"]["profiles"] == ["simulator"]
    assert services["events"]["profiles"] == ["events"]  # without a queue there is nothing to hear


def test_the_platform_waits_longer_than_the_processes_take_to_stop():
    services = images.compose()["services"]
    assert int(services["web"]["stop_grace_period"].removesuffix("s")) > serving.graceful_timeout
    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) >= 30


def test_without_containers_the_same_commands_run():
    services = images.compose()["services"]
    commands = {name: images.command(name, {}) for name in ("worker", "beat", "events")}
    commands["web"] = images.instruction(images.stages()[1], "CMD").words
    for name, command in commands.items():
        (unit,) = (images.ROOT / "deploy/systemd").glob(f"*-{name}.service")
        (line,) = re.findall(r"^ExecStart=\S+/\.venv/bin/(.+)$", unit.read_text(), re.MULTILINE)
        # Its name on a network of containers is all that a worker there has more.
        assert line.split() == [word for word in command if not word.startswith("--hostname")]
        (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE)
        assert int(patience) >= int(services[name].get("stop_grace_period", "10s").removesuffix("s"))


def test_every_variable_of_the_env_files_is_known():
    known = set(re.findall(r"^#?([A-Z_]+)=", (images.ROOT / ".env.example").read_text(), re.MULTILINE))
    composes = {"APP_ENV_FILE", "COMPOSE_PROFILES", "POSTGRES_PASSWORD"}
    for name in ("deploy/simulator.env", "deploy/production.env.example"):
        assert set(images.env_file(name)) - known - composes == set(), name
    trial = images.env_file("deploy/simulator.env")
    assert trial["APP_ENV_FILE"] == "deploy/simulator.env"


def test_the_trial_asks_nothing_of_the_real_aws():
    laptop, trial = images.env_file(".env.example"), images.env_file("deploy/simulator.env")
    simulated = {name for name in laptop if name.startswith("AWS_")}
    assert {name for name in trial if name.startswith("AWS_")} == simulated


# --- The commands, in the image's layout -------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory) -> Iterator[str]:
    """A Redis of their own, as compose.yaml starts it: production's worker listens to the default queue."""
    if not os.environ.get("TEST_REDIS_URL") or shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [*images.command("redis", {}), "--port", str(port), "--bind", "127.0.0.1"]
    log = tmp_path_factory.mktemp("redis") / "redis.log"
    with running(command, log=log, PATH=os.environ["PATH"]):
        until(lambda: b"ready to accept" in log.read_bytes().lower(), what="Redis")
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    server = os.environ.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        pytest.skip("production needs PostgreSQL")
    address = server.rpartition("/")[0]
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        yield f"{address}/{DATABASE}"
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """/app after the build's last step, which is executed; its /tmp is another folder here."""
    folder = tmp_path_factory.mktemp("image")
    app = images.lay_out(folder)
    last = [each for each in images.stages()[0] if each.name == "RUN"][-1]
    # In this order: the checkout, and BIN with it, may itself lie in /tmp.
    script = last.text.replace("/tmp/", f"{folder}/tmp/").replace("/venv/bin/", f"{BIN}/")
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=app,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (app / "staticfiles/staticfiles.json").exists()
    return app


class Containers:
    """Runs the image's and compose's commands with exactly their environment."""

    def __init__(self, app: Path, folder: Path, environment: dict[str, str]) -> None:
        self.app, self.folder = app, folder
        data = folder / "data"
        data.mkdir()
        self.final = images.stages()[1]
        self.environment = {
            **images.environment(self.final),
            "PATH": f"{BIN}:/usr/bin:/bin",
            "DATA_DIR": str(data),
            "HOSTNAME": "container",
            # As the image's user, who has none and can make none; here not even root can.
            "HOME": "/dev/null/home",
            **environment,
        }
        self.environment["GUNICORN_CMD_ARGS"] = f"--bind=127.0.0.1:{self.environment['PORT']}"

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.app,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_healthy(self, command: list[str]) -> bool:
        done = subprocess.run(
            command, cwd=self.app, env=self.environment, capture_output=True, timeout=60, check=False
        )
        return done.returncode == 0

    def start(self, command: list[str], *, name: str):
        return running(command, log=self.folder / f"{name}.log", cwd=self.app, **self.environment)


@pytest.mark.slow
@pytest.mark.ledger
@pytest.mark.postgresql
@pytest.mark.timeout(300)
def test_production_runs_by_the_commands_of_the_image(image, tmp_path, database_url, redis_url):
    values = images.env_file("deploy/production.env.example") | {
        "SECRET_KEY": "0123456789abcdef" * 4,
        "AUDIT_KEY": "fedcba9876543210" * 4,
        "STATUS_TOKEN": "a token of alarms 0123456789",
        "ADMIN_EMAILS": "ops@example.com",
        "SUPPORT_EMAIL": "help@example.com",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PORT": str(free_port()),
    }
    box = Containers(image, tmp_path, values)
    url = f"http://127.0.0.1:{values['PORT']}"
    services = images.compose()["services"]

    assert "No changes" not in box.run(images.command("migrate", values))
    box.run(images.command("migrate", values))  # at each start again
    with ExitStack() as started:
        start = lambda command, name: started.enter_context(box.start(command, name=name))  # noqa: E731
        web = start(images.instruction(box.final, "CMD").words, "web")
        until(lambda: box.is_healthy(images.health_check(box.final)), what="the image's health check")
        worker = start(images.command("worker", values), "worker")
        beat = start(images.command("beat", values), "beat")

        assert answers(f"{url}/readyz")
        assert answers(f"{url}/", status=301, headers={"Host": "app.example.com"})  # to HTTPS
        page = requests.get(f"{url}/", headers=PROXIED, timeout=10)
        assert page.status_code == 200
        (style,) = set(re.findall(r'href="(/static/site\.[0-9a-f]+\.css)"', page.text))
        assert (
            requests.get(url + style, headers=PROXIED, timeout=10)
            .headers["Cache-Control"]
            .endswith("immutable")
        )

        ping = ["sh", "-c", images.interpolated(services["worker"]["healthcheck"]["test"], values)]
        ping[-1] = ping[-1].replace("$HOSTNAME", os.uname().nodename)
        until(lambda: box.is_healthy(ping), what="the worker's health check")

        headers = {**PROXIED, "Authorization": f"Bearer {values['STATUS_TOKEN']}"}
        seen = lambda: requests.get(f"{url}/status", headers=headers, timeout=10).json()  # noqa: E731
        until(lambda: seen()["jobs"]["poll_events"]["succeeded_at"], seconds=45, what="beat's bell")
        assert seen()["broker"]["ok"]

        for process in (beat, worker, web):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
    lines = (tmp_path / "web.log").read_text().splitlines()
    assert {json.loads(line)["logger"] for line in lines} >= {"gunicorn.error", "marketplace_saas.access"}
    assert not [line for line in lines if json.loads(line)["level"] == "ERROR"]  # each would be a mail


@pytest.mark.slow
@pytest.mark.ledger
@pytest.mark.postgresql
@pytest.mark.timeout(300)
def test_the_trial_runs_with_the_simulator(image, tmp_path, database_url, redis_url):
    values = images.env_file("deploy/simulator.env")
    port = str(free_port())
    values = {name: value.replace("simulator:8300", f"127.0.0.1:{port}") for name, value in values.items()}
    values |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PORT": str(free_port())}
    box = Containers(image, tmp_path, values)
    command = [word.replace("8300", port) for word in images.command("simulator", values)]
    command = [word.replace("/data/", f"{box.environment['DATA_DIR']}/") for word in command]
    command = [word.replace("0.0.0.0", "127.0.0.1") for word in command if word != "--allow-others"]
    health = images.compose()["services"]["simulator"]["healthcheck"]["test"].replace("8300", port)
    with box.start(command, name="simulator"):
        until(lambda: box.is_healthy(["sh", "-c", health]), what="the simulator's health check")
        assert answers(f"http://127.0.0.1:{port}/", headers={"Host": "simulator:8300"})
        box.run(images.command("migrate", values))
        with box.start(images.instruction(box.final, "CMD").words, name="web"):
            until(lambda: box.is_healthy(images.health_check(box.final)), what="the image's health check")
            url = f"http://127.0.0.1:{values['PORT']}"
            page = requests.get(f"{url}/", headers={"Host": "localhost"}, timeout=10)
            (style,) = set(re.findall(r'href="(/static/site\.css)"', page.text))
            assert answers(url + style)
            assert answers(f"{url}/outbox/")
        with box.start(images.command("events", values), name="events") as listener:
            until(lambda: "Listening to http" in (tmp_path / "events.log").read_text(), what="the listener")
            listener.send_signal(signal.SIGTERM)
            assert listener.wait(timeout=30) == 0
