from __future__ import annotations

from billing.simulator.state import State
from billing.simulator.web import Request, Response


def answer(state: State, request: Request) -> Response:
    return Response(200, b"ok", (("Content-Type", "text/plain"),))
