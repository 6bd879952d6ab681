"""The studio's server: on the loopback interface only, for the one who has the address with its token.

A page of another origin can neither read the page (token, Host) nor open the socket (token,
Host, Origin). Commands that the session refuses are answered with a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
from collections.abc import Callable
from typing import Any

from ..core.errors import ChainruleError
from ..explain.page.bundle import page
from .session import Session

try:
    import uvicorn
    import websockets  # noqa: F401 (uvicorn speaks WebSocket through it)
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import HTMLResponse, PlainTextResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect
except ImportError as error:
    raise ChainruleError(
        f"the studio needs the extra `page` ({error.name} is missing): pip install 'chainrule[page]'"
    ) from error

HOST = "127.0.0.1"
LARGEST_MESSAGE = 4096  # bytes of a command
TICK = 0.05  # seconds of training between two looks at what the visitor wants
PICTURES = 0.12  # seconds between two states while training
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Studio:
    """The application of one studio, and the address that opens it."""

    def __init__(self, session: Callable[[], Session], port: int, token: str | None = None) -> None:
        self.session = session
        self.port = port
        self.token = token or secrets.token_urlsafe(32)
        self.hosts = {f"{HOST}:{port}", f"localhost:{port}"}
        self.app = Starlette(routes=[Route("/", self.show), WebSocketRoute("/live", self.live)])

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def refused(self, connection: HTTPConnection) -> str | None:
        """Why a connection is not served; None if it is."""
        host = connection.headers.get("host", "")
        if host not in self.hosts:
            return "this server answers on 127.0.0.1 only"
        given = connection.query_params.get("token", "")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "open the address that `chainrule studio` printed: it holds a token"
        origin = connection.headers.get("origin")
        if origin is not None and origin.removeprefix("http://") != host:
            return "another origin may not connect"
        return None

    async def show(self, request: Request) -> Response:
        why = self.refused(request)
        if why is not None:
            return PlainTextResponse(why + "\n", 403, HEADERS)
        state = await asyncio.to_thread(self.session().state)
        host = request.headers["host"]
        state["live"] = f"ws://{host}/live?token={self.token}"
        text = page(state, f"{state['studio']['title']} · chainrule studio", connect=f"ws://{host}")
        return HTMLResponse(text, headers=HEADERS)

    async def live(self, connection: WebSocket) -> None:
        # A browser always says where a script comes from; without an origin it is none of ours.
        if self.refused(connection) is not None or "origin" not in connection.headers:
            await connection.close(1008)
            return
        await connection.accept()
        commands: asyncio.Queue[Any] = asyncio.Queue()
        work = asyncio.create_task(_work(self.session(), connection, commands))
        try:
            while True:
                commands.put_nowait(await connection.receive_json())
        except (WebSocketDisconnect, ValueError):
            pass
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await work


async def _work(session: Session, connection: WebSocket, commands: asyncio.Queue[Any]) -> None:
    """Carry out commands in their order, train in between while the session runs, and send what came of it."""
    loop = asyncio.get_running_loop()
    sent = 0.0
    while True:
        trouble = None
        waiting = [] if session.running else [await commands.get()]
        while not commands.empty():
            waiting.append(commands.get_nowait())
        for command in waiting:
            try:
                await asyncio.to_thread(session.apply, command)
            except ChainruleError as error:
                trouble = str(error)
        if session.running:
            await _run_on(session)
        if waiting or not session.running or loop.time() - sent > PICTURES:
            try:
                state = await asyncio.to_thread(session.state)
            except ChainruleError as error:
                session.running = False
                await connection.send_json({"trouble": str(error)})
                continue
            if trouble is not None:
                state["studio"]["trouble"] = trouble
            await connection.send_json(state)
            sent = loop.time()


async def _run_on(session: Session) -> None:
    """Train for a short while, at the pace that was chosen."""
    if session.pace is None:
        await asyncio.to_thread(session.train, 1_000_000, TICK)
        return
    loop = asyncio.get_running_loop()
    began = loop.time()
    steps = max(1, round(session.pace * TICK))
    await asyncio.to_thread(session.train, steps)
    await asyncio.sleep(max(0.0, steps / session.pace - (loop.time() - began)))


def serve(session: Callable[[], Session], port: int = 0, ready: Callable[[str], None] = print) -> None:
    """Serve until Ctrl-C.

    Args:
        session: makes a session for each page that is opened.
        port: 0 takes a free one.
        ready: called with the address when the server listens.

    Raises:
        ChainruleError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise ChainruleError(f"port {port} of {HOST} cannot be used: {error.strerror or error}") from error
    studio = Studio(session, listener.getsockname()[1])
    config = uvicorn.Config(
        studio.app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=LARGEST_MESSAGE,
        lifespan="off",  # nothing to start or stop; with it, Ctrl-C prints a traceback
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    listener.listen()
    ready(studio.address)
    server.run(sockets=[listener])
