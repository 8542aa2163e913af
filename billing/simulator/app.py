"""The WSGI app: one port answers AWS SDKs, the control API and people with a browser.

What changed is saved before its answer leaves, whether or not the answer then arrives.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable

from billing.simulator.aws import wire
from billing.simulator.aws.protocols import CBOR, JSON_1_1
from billing.simulator.control_api import control
from billing.simulator.lifecycle import delivery
from billing.simulator.pages import router
from billing.simulator.state import State
from billing.simulator.web import BodyTooLarge, Environ, Request, Response, StartResponse, json_response

_log = logging.getLogger(__name__)
_BROKEN_PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Simulation: something broke</title>
<h1>Something broke in the simulator</h1>
<p>This is a simulation of AWS Marketplace, and this page could not be made.
What was asked for may not be kept. The simulator's log says why. <a href="/">Back to the start</a></p></html>
"""


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
        except BodyTooLarge as error:
            response = _too_large(error.request)
        else:
            response = self._answer_and_save(request)
        return response.send(start_response)

    def _answer_and_save(self, request: Request) -> Response:
        # Whatever breaks in us, a client gets an answer of the kind it understands, and we the traceback.
        try:
            with self.state.lock:
                # What fell due while nobody asked, a renewal say, is there before anyone asks of it.
                delivery.catch_up(self.state)
            response = self._answer(request)
            with self.state.lock:
                delivery.catch_up(self.state)
                self.state.save()
        except Exception:
            _log.exception("%s %s could not be answered", request.method, request.path)
            return _broken(request)
        return response

    def _answer(self, request: Request) -> Response:
        if request.path.startswith(control.PREFIX):
            return control.answer(self.state, request)
        if wire.is_for_aws(request):
            return wire.answer(self.state, request, gone=self._gone(request))
        return router.answer(self.state, request)

    def _gone(self, request: Request) -> Callable[[], bool]:
        client_disconnected = request.environ.get("waitress.client_disconnected", lambda: False)
        return lambda: self._stopping or client_disconnected()


def _is_control(request: Request) -> bool:
    return request.path.startswith(control.PREFIX)


def _too_large(request: Request) -> Response:
    if wire.is_for_aws(request) and not _is_control(request):
        return _for_sdk(request, 413, "RequestEntityTooLargeException", "The request body is too large.")
    return json_response({"error": "The request body is too large"}, status=413)


def _broken(request: Request) -> Response:
    """AWS's unmodelled InternalFailure for SDKs, which they retry; JSON for scripts, a page for people."""
    if _is_control(request):
        text = "The simulator failed, and what was asked may not be kept. Its log says why."
        return json_response({"error": text}, status=500)
    if wire.is_for_aws(request):
        text = "The request processing has failed because of an unknown error."
        return _for_sdk(request, 500, "InternalFailure", text)
    return Response(500, _BROKEN_PAGE, (("Content-Type", "text/html; charset=utf-8"),))


def _for_sdk(request: Request, status: int, code: str, message: str) -> Response:
    """An error of the front door, before any service was asked."""
    protocol = CBOR if request.path.startswith("/service/") else JSON_1_1
    error = {"__type": f"com.amazon.coral.service#{code}", "message": message}
    headers = (
        ("Content-Type", protocol.content_type),
        ("x-amzn-RequestId", str(uuid.uuid4())),
        *protocol.headers,
    )
    return Response(status, protocol.write(error), headers)
