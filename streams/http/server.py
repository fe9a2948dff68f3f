"""Serves HTTP on the app's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

__all__ = ["HttpServer", "PortInUse"]

STOP_SECONDS = 2


class PortInUse(Exception):
    """The address to listen on is taken or not allowed; the text names it and the setting."""


class HttpServer:
    """Listens from `start` to `stop`.

    Args:
        app: what answers.
        host: to listen on.
        port: to listen on; 0 for a free one.
    """

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        """Bind, and answer in the background.

        Raises:
            PortInUse: the address cannot be bound.
        """
        listening = self._bind()
        self._port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([listening]), name="http")

    async def stop(self) -> None:
        """Stop answering; connections that are open get a moment to end."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.gather(self._task, return_exceptions=True)
            self._server = self._task = None

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
        except OSError as error:
            listening.close()
            raise PortInUse(
                f"cannot listen on {self._host}:{self._port} ({error.strerror}): "
                "set PAYDAY_HTTP_PORT to another port, or to 0 for a free one"
            ) from error
        return listening


class _Server(uvicorn.Server):
    """Leaves signals to the app, which stops its streams before its HTTP."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
