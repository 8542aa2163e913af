"""Run AWS Marketplace on this machine: a storefront, the AWS APIs, and a control room, all on one port."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.simulator.catalog import read_catalog
from billing.simulator.errors import Refused
from billing.simulator.server import LOOPBACK, SimulatorServer
from billing.simulator.state import State


class Command(BaseCommand):
    help = "Run AWS Marketplace on this machine (storefront, AWS APIs, control room)."
    # It needs neither our database nor our settings to be sound.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8300)
        parser.add_argument(
            "--host", default=LOOPBACK, help="anything but loopback lets others in: it has no password"
        )
        parser.add_argument("--catalog", type=Path, help="JSON file with the products on sale")
        parser.add_argument("--fulfillment-url", help="where a buyer is sent with a registration token")
        parser.add_argument(
            "--clock-offset-seconds", type=float, default=0.0, help="run ahead of (or behind) real time"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        try:
            state = State(
                read_catalog(options["catalog"]) if options["catalog"] else [],
                clock_offset=timedelta(seconds=options["clock_offset_seconds"]),
                fulfillment_url=options["fulfillment_url"],
            )
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        port = options["port"]
        if not 0 <= port <= 65535:
            # The resolver would quietly take it modulo 65536.
            raise CommandError(f"There is no port {port}. Choose one from 0 to 65535 with --port.")
        try:
            server = SimulatorServer(state, host=options["host"], port=port)
        except OSError as error:
            raise CommandError(
                f"Cannot listen on port {port} ({error}). Choose another with --port."
            ) from None
        with server:
            self.stdout.write(f"AWS Marketplace simulator: {server.url}/ (not AWS; nothing here costs money)")
            self.stdout.flush()
            stopped.wait()
