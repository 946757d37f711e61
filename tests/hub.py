"""A hub of one's own: what huggingface_hub asks for when a repository is filled, listed and fetched, kept in memory."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """Listens on loopback; `files` {path in the repository: bytes}; `asked`: every request's method, path and token."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, content, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        for name, value in {"content-length": str(len(body)), "x-repo-commit": "a" * 40, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path, hub = unquote(urlsplit(self.path).path), self.server
        hub.asked.append((self.command, path, self.headers.get("authorization")))
        if "/resolve/" in path:
            name = path.split("/resolve/")[1].split("/", 1)[1]
            if name not in hub.files:
                return self.send_error(404)
            return self.answer(hub.files[name], etag=f'"{hashlib.sha1(hub.files[name]).hexdigest()}"')
        if "/tree/" in path:
            return self.answer([{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                                for name, content in hub.files.items()])
        return self.answer({"id": "kana/runs", "sha": "a" * 40, "siblings": [{"rfilename": name} for name in hub.files]})

    do_HEAD = do_GET

    def do_POST(self):
        path, hub = urlsplit(self.path).path, self.server
        hub.asked.append((self.command, path, self.headers.get("authorization")))
        body = self.rfile.read(int(self.headers["content-length"]))
        if path.endswith("/preupload/main"):
            return self.answer({"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                                          for file in json.loads(body)["files"]]})
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer({"commitUrl": f"{hub.url}/kana/runs/commit/{'a' * 40}", "commitOid": "a" * 40})
        return self.answer({"url": f"{hub.url}/kana/runs", "name": "kana/runs", "id": "kana/runs"})
