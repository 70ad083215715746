"""A model hub on this machine: the few answers of its interface that are read here, over HTTP, with its error codes.

Error codes and statuses are those of the hub's documented interface: 401 for what does not exist or may not be read,
403 with GatedRepo for a token without the right, 404 with RevisionNotFound.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "beef"


@dataclass
class Hub:
    url: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)  # models/own/er or datasets/own/er -> its files
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # likewise -> status and error code
    asked: list[str] = field(default_factory=list)  # paths, in order

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        path = path.partition("?")[0].strip("/")
        self.asked.append(path)
        parts = path.removeprefix("api/").split("/")
        if parts[0] not in ("models", "datasets"):
            parts = ["models", *parts]
        name, rest = "/".join(parts[:3]), parts[3:]
        files = path.startswith("api/") is False
        if name in self.refused and (files or self.refused[name][1] != "GatedRepo"):
            status, code = self.refused[name]
            return status, {"X-Error-Code": code} if code else {}, b"{}"
        if name not in self.repositories:
            return 401, {}, b"{}"
        root = self.repositories[name]
        if len(rest) > 1 and rest[1] not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        found = sorted(file for file in root.rglob("*") if file.is_file())
        match rest:
            case [] | ["revision", _]:
                siblings = [{"rfilename": file.relative_to(root).as_posix()} for file in found]
                return self._json({"id": "/".join(parts[1:3]), "sha": COMMIT, "siblings": siblings})
            case ["tree", _, *inside]:
                below = "/".join(inside)
                entries = [self._entry(root, file) for file in found]
                return self._json([entry for entry in entries if entry["path"].startswith(below)])
            case ["resolve", _, *inside] if (file := root.joinpath(*inside)).is_file():
                content = file.read_bytes()
                head = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
                return 200, head | {"Accept-Ranges": "bytes"}, content
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"

    @staticmethod
    def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    @staticmethod
    def _entry(root: Path, file: Path) -> dict[str, Any]:
        content = file.read_bytes()
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": file.relative_to(root).as_posix(), "size": len(content), "oid": oid}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, head, content = hub.answer(self.path)
            if (wanted := self.headers.get("Range")) and status == 200:
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                whole, status = len(content), 206
                first, last = int(start), min(int(end or whole - 1), whole - 1)
                content, head = content[first : last + 1], head | {"Content-Range": f"bytes {first}-{last}/{whole}"}
            self.send_response(status)
            for key, value in (head | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_said: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
