"""A stand-in for the Hugging Face Hub: the few endpoints that huggingface_hub asks for, answered from memory."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1", COMMIT)


class StandIn(ThreadingHTTPServer):
    """Serves `repos`: files by repository; those of `private` ask for the token `secret`. Keeps what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.private, self.asked, self.tokens = {}, set(), [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(f"{self.command} {unquote(urlsplit(self.path).path)}")
        self.server.tokens.append(self.headers.get("authorization"))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repo, rest = ("/".join(parts[2:4]), parts[4:]) if is_api else ("/".join(parts[:2]), parts[2:])
        if repo not in self.server.repos:
            return self._fail(401, "RepoNotFound")  # as the Hub answers, so that private names are not told
        if repo in self.server.private and self.headers.get("authorization") != "Bearer secret":
            return self._fail(401, "RepoNotFound")
        if repo == "user/gated":
            return self._fail(403, "GatedRepo")
        files = self.server.repos[repo]
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in REVISIONS:
            return self._fail(404, "RevisionNotFound")
        if is_api and rest[:1] == ["tree"]:
            return self._json([{"type": "file", "path": k, "size": len(v), "oid": "0"} for k, v in files.items()])
        if is_api:
            return self._json({"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})
        name = "/".join(rest[2:])
        if name not in files:
            return self._fail(404, "EntryNotFound")
        etag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
        return self._answer(200, files[name], {"ETag": etag, "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def do_POST(self):
        self.server.asked.append(f"POST {urlsplit(self.path).path}")
        self.server.tokens.append(self.headers.get("authorization"))
        body = self._body()
        if self.headers.get("authorization") != "Bearer secret":
            return self._fail(401, "")
        if self.path == "/api/repos/create":
            made = json.loads(body)
            repo = "/".join(filter(None, (made.get("organization"), made["name"])))
            self.server.repos.setdefault(repo, {})
            return self._json({"url": f"{self.server.url}/{repo}", "id": repo})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        repo = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            named = [each["path"] for each in json.loads(body)["files"]]
            kept = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in named]
            return self._json({"files": kept})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def _body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, data):
        self._answer(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _fail(self, code, kind):
        self._answer(code, b"", {"X-Error-Code": kind, "X-Error-Message": kind})

    def _answer(self, code, body, headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def stand_in():
    """Serve within the block."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
