"""The application behind a real socket, in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from keyvid.serve.connections import PatientProtocol


@contextmanager
def listening(app: FastAPI, root_path: str = "") -> Iterator[str]:
    """The address of `app` within the block, without a / at its end."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        root_path=root_path,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
