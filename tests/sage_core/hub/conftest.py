"""A real HTTP server on loopback that hands out weights, well or badly."""

import http.server
import threading

import pytest
import torch
from safetensors.torch import save

from sage_core.hub import PublishedModel, _cache, _published


class Quiet(http.server.ThreadingHTTPServer):
    """Says nothing of clients that hang up, as those that refuse an oversized file do."""

    daemon_threads = True

    def handle_error(self, request, client_address): ...


class WeightsServer:
    """Serves ``files`` by path with ranges and tags; ``habits`` are what it does wrong, by path."""

    def __init__(self):
        self.files, self.habits, self.requests = {}, {}, []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests.append((self.path, self.headers.get("Range")))
                habit = server.habits.get(self.path)
                if habit is None:
                    server.serve(self)
                else:
                    habit(self)

            def log_message(self, *arguments): ...

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, request, *, at_most=None, ranges=True):
        """Send the file from where the client asks, cut after ``at_most`` bytes of it."""
        data = self.files.get(request.path)
        if data is None:
            request.send_error(404)
            return
        tag = f'"{hash(data) & 0xFFFF:x}"'
        asked = request.headers.get("Range")
        start = int(asked[6:-1]) if asked and request.headers.get("If-Range") == tag else 0
        start = start if ranges else 0
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.send_header("ETag", tag)
        request.end_headers()
        request.wfile.write(data[start:][:at_most])

    def close(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    one = WeightsServer()
    yield one
    one.close()


@pytest.fixture
def weights():
    """A few MB of sound safetensors."""
    return save({"a": torch.arange(700_000, dtype=torch.float32), "b": torch.ones(3)})


@pytest.fixture
def hub(server, weights, tmp_path, monkeypatch):
    """A hub of one model, in an empty folder; returns what changes facts of that model."""
    folder = tmp_path / "models"
    monkeypatch.setenv("SAGE_MODELS", str(folder))
    server.files["/w/model.safetensors"] = weights
    facts = {
        "name": "tiny",
        "architecture": "mvdust3r",
        "parameters_m": 0.7,
        "licence": "CC BY-NC 4.0",
        "commercial": False,
        "page": "https://example.org/tiny",
        "url": f"{server.url}/w/model.safetensors",
    }

    def offered(**changes):
        models = (PublishedModel(**facts | changes),)
        monkeypatch.setattr(_published, "PUBLISHED", models)
        monkeypatch.setattr(_cache, "PUBLISHED", models)
        return folder

    offered()
    return offered
