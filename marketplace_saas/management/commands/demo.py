"""`make demo`: start everything, play the story, show the table, keep serving until Ctrl-C."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from argparse import ArgumentParser
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from billing.simulator.client import ControlError, SimulatorControl
from marketplace_saas.demo import ledger
from marketplace_saas.demo.browser import PageProblem
from marketplace_saas.demo.player import PASSWORD, Buyer, Stage, StoryProblem, play
from marketplace_saas.demo.processes import Children, ProcessProblem, refuse_busy_port

OPERATOR = "operator@acme.example"
TWO_HOURS = 7200


class Command(BaseCommand):
    help = "Play the whole business on this machine. Started by `make demo`, which sets the environment."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--web-port", type=int, default=8000)
        parser.add_argument("--simulator-port", type=int, default=8300)
        parser.add_argument("--exit", action="store_true", help="exit after the table: 0 only if it agrees")

    def handle(self, *args: Any, **options: Any) -> None:
        folder = settings.DATA_DIR
        if folder.name != ".demo" or not settings.DEBUG:
            raise CommandError("The demo wipes its own data folder and no other: start it with `make demo`.")
        web, simulator = options["web_port"], options["simulator_port"]
        if web == simulator:
            raise CommandError("WEB_PORT and SIMULATOR_PORT must differ.")
        try:
            refuse_busy_port(web, "WEB_PORT")
            refuse_busy_port(simulator, "SIMULATOR_PORT")
        except ProcessProblem as problem:
            raise CommandError(str(problem)) from problem
        for stop in (signal.SIGINT, signal.SIGTERM):  # also where a shell started us with SIGINT ignored
            signal.signal(stop, _interrupt)
        site_url, simulator_url = f"http://localhost:{web}", f"http://127.0.0.1:{simulator}"
        _prepare()
        _log_to(folder / "log/demo.log")
        children = Children(folder / "log", _environment(site_url, simulator_url))
        try:
            agrees = self._run(children, site_url, simulator_url, serve=not options["exit"])
            if not options["exit"]:
                self._serve(children, site_url, simulator_url)
        except KeyboardInterrupt:
            self.stdout.write("\nStopping.")
            return
        except (
            ProcessProblem,
            StoryProblem,
            PageProblem,
            ControlError,
            requests.RequestException,
        ) as problem:
            raise CommandError(f"{problem}\nThe logs are in {folder / 'log'}.") from problem
        finally:
            children.stop()
        if not agrees:
            raise CommandError("The columns do not agree.")

    def _run(self, children: Children, site_url: str, simulator_url: str, *, serve: bool) -> bool:
        self.stdout.write("Acme Reports sells on AWS Marketplace. Everything below runs on this machine.\n\n")
        children.start(
            "simulator",
            "manage.py",
            "marketplace_simulator",
            "--quick",
            f"--port={urlsplit(simulator_url).port}",
            f"--catalog={settings.MARKETPLACE_CATALOG}",
            f"--fulfillment-url={site_url}/marketplace/register/",
            f"--clock-offset-seconds=-{TWO_HOURS}",
        )
        children.start("web", "manage.py", "runserver", "--noreload", urlsplit(site_url).netloc)
        children.start(
            "worker", "-m", "celery", "-A", "marketplace_saas", "worker", "--beat", "--pool=solo",
            "--without-mingle", "--without-gossip", "--loglevel=INFO",
        )  # fmt: skip
        children.wait_for(f"{simulator_url}/_simulator/state")
        children.wait_for(f"{site_url}/marketplace/register/")
        buyers = play(Stage(site_url, simulator_url, check=children.check, say=self._say))
        rows = ledger.compare(SimulatorControl(simulator_url).invoice())
        self.stdout.write("")
        for line in ledger.table(rows):
            self.stdout.write(f"  {line}")
        agrees = bool(rows) and all(row.agrees for row in rows)
        if agrees:
            self._say("Recorded less included is what we metered, and what AWS bills", before="\n")
        if serve:
            self._show_urls(site_url, simulator_url, buyers)
        return agrees

    def _serve(self, children: Children, site_url: str, simulator_url: str) -> NoReturn:
        self.stdout.write("\nEverything keeps running. Ctrl-C stops it.")
        self.stdout.flush()
        while True:
            children.check()
            time.sleep(1)

    def _say(self, step: str, before: str = "") -> None:
        self.stdout.write(f"{before}{self.style.SUCCESS('✓')} {step}")
        self.stdout.flush()

    def _show_urls(self, site_url: str, simulator_url: str, buyers: list[Buyer]) -> None:
        pages = {
            "Buy something yourself": f"{simulator_url}/",
            "What AWS would bill": f"{simulator_url}/invoice",
            "The product, as Ada": buyers[0].product_url,
            "Her subscription": f"{site_url}/o/{buyers[0].slug}/subscription/",
            "Admin, as the operator": f"{site_url}/admin/",
            "Mail that was sent": f"{site_url}/outbox/",
        }
        width = max(map(len, pages))
        self.stdout.write("")
        for label, url in pages.items():
            self.stdout.write(f"  {label.ljust(width)}  {url}")
        logins = ", ".join([OPERATOR, *(buyer.email for buyer in buyers)])
        self.stdout.write(f"\n  Logins: {logins}\n  Password for all: {PASSWORD}")


def _prepare() -> None:
    """A clean folder, a migrated database with the catalog in it, and somebody to look at admin."""
    folder = settings.DATA_DIR
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("log", "mail", "broker/messages", "broker/control"):
        (folder / part).mkdir(parents=True)
    with (folder / "log/setup.log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        call_command("migrate", verbosity=1, stdout=log)
        call_command("load_catalog", stdout=log)
    User.objects.create_superuser(OPERATOR, PASSWORD, name="Olga Operator")


def _log_to(file: Path) -> None:
    """The screen shows the story only: what libraries of this process log goes beside the children's."""
    handler = logging.FileHandler(file)
    for name in (None, "django"):
        logging.getLogger(name).handlers[:] = [handler]


def _environment(site_url: str, simulator_url: str) -> dict[str, str]:
    """What the children run with. Real boto3 is pointed at the simulator by botocore's own variables."""
    services = (
        "MARKETPLACE_METERING",
        "MARKETPLACE_ENTITLEMENT_SERVICE",
        "MARKETPLACE_AGREEMENT",
        "SQS",
        "STS",
        "EVENTBRIDGE",
    )
    return {
        "SITE_URL": site_url,
        "MARKETPLACE_EVENT_QUEUES": f"{simulator_url}/000000000000/marketplace-events",
        **{f"AWS_ENDPOINT_URL_{service}": simulator_url for service in services},
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "us-east-1",
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "marketplace_saas.settings"),
    }


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
