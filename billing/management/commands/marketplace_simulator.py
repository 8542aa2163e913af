"""Run AWS Marketplace on this machine: a storefront, the AWS APIs, and a control room, all on one port."""

from __future__ import annotations

import math
import signal
from argparse import ArgumentParser
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError

from billing.simulator import journal
from billing.simulator.catalog import read_catalog
from billing.simulator.clock import Clock
from billing.simulator.control_api.fields import FASTEST, shifted
from billing.simulator.errors import Refused
from billing.simulator.server import LOOPBACK, SimulatorServer, lets_others_in
from billing.simulator.state import State
from billing.simulator.switches import QUICK, Switches, Timings, set_switches


class Command(BaseCommand):
    help = "Run AWS Marketplace on this machine (storefront, AWS APIs, control room)."
    # It needs neither our database nor our settings to be sound.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=8300, help="0 takes any that is free")
        parser.add_argument("--host", default=LOOPBACK, help="where to listen; only loopback is safe")
        parser.add_argument(
            "--allow-others",
            action="store_true",
            help="let a --host that other machines reach be listened on; the simulator has no password",
        )
        parser.add_argument(
            "--state", type=Path, help="file to keep everything in; a restart, even after kill -9, goes on"
        )
        parser.add_argument(
            "--speed", type=float, help=f"simulated seconds that pass in a real one: above 0, up to {FASTEST}"
        )
        parser.add_argument("--catalog", type=Path, help="JSON file with the products on sale")
        parser.add_argument("--fulfillment-url", help="where a buyer is sent with a registration token")
        parser.add_argument(
            "--clock-offset-seconds",
            type=float,
            default=0.0,
            help="start ahead of (or behind) real time; a clock that --state kept goes on as it was",
        )
        parser.add_argument(
            "--quick", action="store_true", help="licenses and events come within seconds, not after a minute"
        )
        parser.add_argument("--no-quotas", action="store_true", help="do not throttle at AWS's request rates")

    def handle(self, *args: Any, **options: Any) -> None:
        asked_to_stop: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: asked_to_stop.put(number))
        with ExitStack() as running:
            try:
                self._check(options)
                state = _state(options)
                if options["state"]:
                    running.enter_context(journal.keep(state, options["state"]))
                    _apply_again(state, options)
                server = _server(state, options)
            except Refused as refusal:
                raise CommandError(str(refusal)) from None
            running.enter_context(server)
            self.stdout.write(f"AWS Marketplace simulator: {server.url}/ (not AWS; nothing here costs money)")
            self.stdout.flush()
            asked_to_stop.get()

    def _check(self, options: dict[str, Any]) -> None:
        port, host = options["port"], options["host"]
        if not 0 <= port <= 65535:
            # The resolver would quietly take it modulo 65536.
            raise Refused(f"There is no port {port}. Choose one from 0 to 65535 with --port.")
        try:
            exposed = lets_others_in(host)
        except (OSError, ValueError) as error:
            raise Refused(f"There is no host {host!r} ({error}). Choose another with --host.") from None
        if exposed and not options["allow_others"]:
            raise Refused(
                f"--host {host} would let other machines in, and the simulator has no password."
                " Add --allow-others if that is what you want."
            )
        if exposed:
            self.stderr.write(
                f"Warning: whoever reaches {host} can read and steer this simulator. It has no password."
            )
        _check_url(options["fulfillment_url"])


def _check_url(url: str | None) -> None:
    if url is None:
        return
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        sound = False
    if not sound:
        raise Refused(f"--fulfillment-url {url!r} is no address like http://localhost:8000/register/")


def _state(options: dict[str, Any]) -> State:
    speed = 1.0 if options["speed"] is None else options["speed"]
    if not 0 < speed <= FASTEST:
        raise Refused(f"--speed is above 0 and at most {FASTEST}, not {speed:g}.")
    return State(
        read_catalog(options["catalog"]) if options["catalog"] else [],
        clock_offset=_offset(options["clock_offset_seconds"]),
        speed=speed,
        fulfillment_url=options["fulfillment_url"],
        switches=Switches(quotas=not options["no_quotas"]),
        timings=QUICK if options["quick"] else Timings(),
    )


def _offset(seconds: float) -> timedelta:
    if not math.isfinite(seconds) or abs(seconds) > timedelta.max.total_seconds() / 2:
        raise Refused(f"--clock-offset-seconds {seconds:g} is out of range.")
    offset = timedelta(seconds=seconds)
    shifted(Clock.real_now(), offset)
    return offset


def _apply_again(state: State, options: dict[str, Any]) -> None:
    """What was asked for on the command line also goes for a state that was kept."""
    if options["fulfillment_url"] is not None:
        state.change_conditions(fulfillment_url=options["fulfillment_url"])
    if options["no_quotas"]:
        state.change_conditions(switches=set_switches(state.switches, {"quotas": False}))
    if options["quick"]:
        state.change_conditions(timings=QUICK)
    if options["speed"] is not None:
        state.move_clock(speed=options["speed"])


def _server(state: State, options: dict[str, Any]) -> SimulatorServer:
    try:
        return SimulatorServer(state, host=options["host"], port=options["port"])
    except OSError as error:
        raise Refused(
            f"Cannot listen on port {options['port']} ({error}). Choose another with --port."
        ) from None
