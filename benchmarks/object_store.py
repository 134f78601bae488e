"""A real S3 server (moto's) on loopback that can be told to misbehave; requests are taken one at a time.

moto looks and then writes, so two conditional writes at once could both win. One request at a time, it is as
atomic as S3 is.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BUCKET = "sage-test"
Fault = Callable[[dict[str, Any]], bytes | None]
"""Given a request's WSGI environment: the status line to answer with instead of serving it, or None."""


@dataclass
class ObjectStore:
    """The server: its endpoint, what it was asked, and how it is to fail."""

    endpoint: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault | None = None
    lost: Fault | None = None
    """Like ``fault``, but the request is served: only its answer is lost."""
    delay_s: float = 0.0
    ignore_conditions: bool = False

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self.fault = fault
        try:
            yield
        finally:
            self.fault = None


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Serve for the block; this process and its children find it by their environment."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store, turn = ObjectStore(), threading.Lock()
    served = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], respond: Any) -> Any:
        store.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        time.sleep(store.delay_s)
        status = store.fault(environ) if store.fault else None
        if status is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            respond(status.decode(), [("Content-Type", "application/xml")])
            code = b"AccessDenied" if status.startswith(b"403") else b"InternalError"
            return [b"<Error><Code>%s</Code><Message>We are sorry.</Message></Error>" % code]
        if store.ignore_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with turn:
            status = store.lost(environ) if store.lost else None
            if status is None:
                return list(served(environ, respond))
            list(served(environ, lambda *_: None))
            respond(status.decode(), [("Content-Type", "application/xml")])
            return [b""]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings = {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        _make_bucket()
        yield store
    finally:
        server.shutdown()
        thread.join()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make_bucket() -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket=BUCKET)
