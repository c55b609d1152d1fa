"""Run the application with uvicorn: it ends when it has answered what it accepted, and loads the run anew on SIGHUP."""

import ctypes
import logging
import os
import platform
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from thinkrank.errors import ThinkrankError
from thinkrank.serve.state import State

logger = logging.getLogger(__name__)

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Parameters of glibc's mallopt."""


class _Server(uvicorn.Server):
    """Server that says that it is not ready as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, state: State, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._state, self._told_ready = state, ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._state.is_ready = False
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._told_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def bound(host: str, port: int) -> socket.socket:
    """Take a port; who connects before the server runs waits.

    Args:
        host: address to listen on.
        port: to listen on; 0 takes a free one.

    Raises:
        ThinkrankError: if it cannot be had.
    """
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":  # elsewhere it would share the port of another process
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
        taken.listen()  # or another that is still loading could take it, too
    except OSError as error:
        taken.close()
        raise ThinkrankError(f"port {port} of {host} cannot be had ({error.strerror}): give another --port") from error
    return taken


def run(app: FastAPI, listener: socket.socket, *, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until SIGINT or SIGTERM; then answer what was accepted, and end.

    SIGHUP loads the run anew, where there is such a signal.

    Args:
        app: made by `create_app`.
        listener: on whose port; see `bound`.
        ready: is told the address when questions are answered.
    """
    state: State = app.state.thinkrank
    _give_memory_back()
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=_reload, args=(state,), daemon=True).start())
    _Server(config, state, ready).run([listener])


def _give_memory_back() -> None:
    """Let glibc return large blocks when they are freed, such as what is kept of a history.

    By default each of many threads keeps its own for later, and the size from which blocks go back rises by itself:
    states that are kept then lie between holes, and the process grows for hours. What one step computes is smaller:
    going back and forth it would cost a tenth of the time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_ARENA_MAX, 2)
        libc.mallopt(_MMAP_THRESHOLD, 4 * 2**20)


def _reload(state: State) -> None:
    try:
        logger.info("loaded anew: version %s", state.reload().version)
    except ThinkrankError as error:
        logger.warning("%s", " ".join(str(error).split()))
