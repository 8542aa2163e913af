"""The WSGI app: one port answers AWS SDKs, the control API and people with a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from billing.simulator import control, delivery, pages, wire
from billing.simulator.state import State
from billing.simulator.web import BodyTooLarge, Environ, Request, Response, StartResponse, json_response


class Simulator:
    """AWS Marketplace for one seller. Thread-safe; all it knows is in ``state``."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        self._stopping = False

    def stop(self) -> None:
        """Send whoever waits for a message home, so that the server can end its threads."""
        with self.state.lock:
            self._stopping = True
            self.state.lock.notify_all()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            request = Request.read(environ)
        except BodyTooLarge:
            response = json_response({"error": "The request body is too large"}, status=413)
        else:
            response = self._answer(request)
            with self.state.lock:
                delivery.catch_up(self.state)
        return response.send(start_response)

    def _answer(self, request: Request) -> Response:
        if request.path.startswith(control.PREFIX):
            return control.answer(self.state, request)
        if request.header("X-Amz-Target") or (request.method == "POST" and request.path == "/"):
            return wire.answer(self.state, request, gone=self._gone(request))
        return pages.answer(self.state, request)

    def _gone(self, request: Request) -> Callable[[], bool]:
        client_disconnected = request.environ.get("waitress.client_disconnected", lambda: False)
        return lambda: self._stopping or client_disconnected()
