"""Serves the simulator on waitress, in a thread of its own, on loopback unless told otherwise."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Self

from waitress.server import BaseWSGIServer, create_server

from billing.simulator.app import Simulator
from billing.simulator.state import State

LOOPBACK = "127.0.0.1"
THREADS = 32
LARGEST_UPLOAD = 64 * 1024 * 1024
SERVICE_NAMES = (
    "MARKETPLACE_METERING",
    "MARKETPLACE_ENTITLEMENT_SERVICE",
    "MARKETPLACE_AGREEMENT",
    "SQS",
    "STS",
    "EVENTBRIDGE",
)
"""As botocore spells them in AWS_ENDPOINT_URL_<name>."""


def address_of(host: str) -> str:
    """The one address that is listened on for a host; raises OSError when it has none."""
    if host in ("", "*"):
        return "0.0.0.0"
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])


def lets_others_in(host: str) -> bool:
    """True unless only this machine reaches it."""
    return not ipaddress.ip_address(address_of(host)).is_loopback


class SimulatorServer:
    """Binds at once, so that a busy port is known before anything starts; serves from start() to stop()."""

    def __init__(self, state: State | None = None, *, host: str = LOOPBACK, port: int = 0) -> None:
        self.app = Simulator(state)
        self._server: BaseWSGIServer = create_server(  # type: ignore[no-untyped-call]  # waitress is untyped
            self.app,
            host=address_of(host),
            port=port,
            threads=THREADS,
            # What is larger is refused before it fills the disk; AWS's own limits are far below.
            max_request_body_size=LARGEST_UPLOAD,
            # Lets a long poll notice that its client hung up.
            channel_request_lookahead=1,
            # Answers dropped on purpose are not errors.
            log_socket_errors=False,
            connection_limit=1000,
            ident="marketplace-simulator",
        )
        self._thread = threading.Thread(target=self._server.run, name="marketplace-simulator", daemon=True)

    @property
    def state(self) -> State:
        return self.app.state

    @property
    def url(self) -> str:
        host = self._server.effective_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.effective_port}"

    @property
    def endpoint_env(self) -> dict[str, str]:
        """The environment that points an unmodified SDK here."""
        return {f"AWS_ENDPOINT_URL_{name}": self.url for name in SERVICE_NAMES}

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer who is being answered, then close everything."""
        self.app.stop()
        self._server.task_dispatcher.shutdown(timeout=2)
        pulled = threading.Event()

        def close() -> None:
            # The trigger is among what is closed; not before whoever pulled it has let go.
            pulled.wait()
            for channel in list(self._server._map.values()):
                channel.close()

        # Sockets are closed by the thread that selects on them; closing them from here would race with it.
        self._server.trigger.pull_trigger(close)  # type: ignore[no-untyped-call]  # as above
        pulled.set()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()
