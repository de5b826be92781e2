"""A Hugging Face Hub on the loopback interface, so that tests push and pull over real HTTP.

Uploads, model loading and streaming go wrong in the exchange with the Hub, which a mocked client
hides. This server keeps repositories in memory, answers unmodified clients in subprocesses that
start with `HubServer.env`, and fails chosen requests on demand. As on the real Hub, a repository
is born with a `.gitattributes`, writing needs the token, and weights and tables go through LFS.
What it does not know it answers with 501 and lists in `HubServer.unimplemented`, so that a missing
endpoint is never taken for a pass.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import yaml  # huggingface_hub depends on it, so it is there wherever a client is

TOKEN = "hf_test" + "0" * 30
USER = "me"
LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".npy", ".parquet", ".pt", ".safetensors", ".zip")
# YAML reads an unquoted `no` as false: Norwegian is the classic card that the Hub refuses.
TEXT_KEYS = ("base_model", "datasets", "language", "library_name", "license", "metrics", "tags")


class HubError(Exception):
    """An answer that is not a success; clients turn `code` into a typed exception."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class LoggedRequest(NamedTuple):
    """What `HubServer.requests` keeps of a request: whether a token came with it, never which."""

    method: str
    path: str
    authorized: bool


class Blob(NamedTuple):
    """The content of a file, and whether git would hold only an LFS pointer to it."""

    data: bytes
    lfs: bool = False

    @property
    def etag(self) -> str:
        """The id by which clients compare files and name them in their cache."""
        if self.lfs:
            return hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    def describe(self, path: str) -> dict[str, Any]:
        size = len(self.data)
        # Where a pointer stands in git, clients go by the LFS id and take any git id.
        entry = {"type": "file", "path": path, "size": size, "oid": Blob(self.data).etag}
        lfs = {"oid": self.etag, "size": size, "pointerSize": 130}
        return entry | {"lfs": lfs} if self.lfs else entry


class Commit(NamedTuple):
    """A full snapshot: tests are small, and snapshots keep every revision readable."""

    sha: str
    date: str
    files: dict[str, Blob]


@dataclass
class Repo:
    """One repository: a single branch, tags, and every commit by its id."""

    kind: str
    name: str
    private: bool
    tags: list[str] = field(default_factory=list)
    revisions: dict[str, Commit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lines = (f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        self.commit({".gitattributes": Blob("".join(lines).encode())})

    @property
    def web_path(self) -> str:
        return self.name if self.kind == "models" else f"{self.kind}/{self.name}"

    def at(self, revision: str) -> Commit:
        if revision not in self.revisions:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.revisions[revision]

    def commit(self, files: dict[str, Blob]) -> Commit:
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # The count keeps commits with equal content apart.
        sha = hashlib.sha1(f"{self.web_path} {len(self.revisions)}".encode()).hexdigest()
        self.revisions[sha] = self.revisions["main"] = Commit(sha, date, files)
        return self.revisions[sha]


def _card_metadata(card: Blob | None) -> dict[str, Any]:
    """The YAML block at the top of a card; `HubError` 400 where the Hub would refuse it."""
    block = re.match(r"---\r?\n(.*?)\r?\n---", card.data.decode() if card else "", re.DOTALL)
    try:
        data = (yaml.safe_load(block[1]) if block else None) or {}
    except yaml.YAMLError as error:
        raise HubError(400, f"invalid YAML: {error}") from error
    if not isinstance(data, dict):
        raise HubError(400, "metadata must be a mapping")
    for key in TEXT_KEYS:
        values = data[key] if isinstance(data.get(key), list) else [data.get(key, "")]
        if not all(isinstance(value, str) for value in values):
            raise HubError(400, f'"{key}" must be a string or a list of strings')
    return data


def in_process(code: str, env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, where the client reads `env` before anything else."""
    command = [sys.executable, "-c", code, *args]
    root = Path(__file__).parent.parent
    return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=False)


class HubServer:
    """The server as a context manager: it listens inside the `with` block and nowhere else."""

    def __init__(self) -> None:
        self.requests: list[LoggedRequest] = []
        self.unimplemented: list[str] = []
        self.lock = threading.Lock()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[tuple[str, str, int | None]] = []

    def __enter__(self) -> "HubServer":
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-", ignore_cleanup_errors=True)
        # A short poll, because shutting down waits for it.
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._home.cleanup()

    def env(self, home: str | os.PathLike[str] | None = None) -> dict[str, str]:
        """A whole environment for `subprocess.run`, with `home` (or one folder here) as HF_HOME.

        Clients read it on import, so it serves only a new process. What loads into a fresh `home`
        came over HTTP, not from a cache. The caller's own Hub settings and proxies are left out,
        so that nothing meant for this server reaches another one.
        """
        drop = re.compile(r"(HF_|HUGGING|TRANSFORMERS_).*|.*_proxy", re.IGNORECASE)
        env = {key: value for key, value in os.environ.items() if not drop.fullmatch(key)}
        for switch in ("DISABLE_XET", "DISABLE_TELEMETRY", "DISABLE_PROGRESS_BARS"):
            env[f"HF_HUB_{switch}"] = "1"
        return env | {
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # `datasets` would count at a host of its own
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home or self._home.name),
        }

    def files(
        self, repo_id: str, repo_type: str = "model", revision: str = "main"
    ) -> dict[str, bytes]:
        """What a repository holds, LFS files resolved; `HubError` 404 where there is none."""
        with self.lock:
            commit = self.repo(f"{repo_type}s", repo_id).at(revision)
            return {path: blob.data for path, blob in commit.files.items()}

    def fail_next(
        self, method: str, path_substring: str, times: int = 1, status: int | None = 500
    ) -> None:
        """Fails the next matching requests before they have any effect.

        With a status of None the connection drops. huggingface_hub itself repeats most requests
        on 429, 5xx and dropped connections, up to 5 times with growing pauses, so there one fault
        is a hiccup. It repeats no `/commit/` and no other 4xx: there one fault ends the push.
        """
        with self.lock:
            self.faults += [(method.upper(), path_substring, status)] * times

    def repo(self, kind: str, name: str) -> Repo:
        if (kind, name) not in self.repos:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self.repos[kind, name]


_ROUTES: list[tuple[str, re.Pattern[str], bool, Callable[["_Handler"], Any]]] = []
_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_GIT = r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+)"
_REV = r"/(?P<revision>[^/]+)"


def _route(method: str, pattern: str, token: bool = False) -> Callable[..., Any]:
    """Registers an endpoint, open to all or only with the token."""

    def register(endpoint: Callable[["_Handler"], Any]) -> Callable[["_Handler"], Any]:
        _ROUTES.append((method, re.compile(pattern), token, endpoint))
        return endpoint

    return register


class _Handler(BaseHTTPRequestHandler):
    """One request: endpoints return what goes out, as JSON unless it is bytes."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # headers and body leave in one packet
    hub: HubServer

    def _serve(self) -> None:
        # Read before any answer: a client that still sends takes an early one for a broken pipe.
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.status, self.reply_headers = 200, dict[str, str]()
        with self.hub.lock:  # one at a time, so that endpoints need not think about threads
            authorized = "Authorization" in self.headers
            self.hub.requests.append(LoggedRequest(self.command, self.path, authorized))
            try:
                reply = self._answer()
            except ConnectionAbortedError:
                self.close_connection = True
                return
            except HubError as error:
                # A header holds one line of ASCII; the body says it all.
                told = error.message.split("\n")[0].encode("ascii", "replace").decode()
                self.reply_headers = {"X-Error-Message": told, "X-Error-Code": error.code}
                self.status, reply = error.status, {"error": error.message}
        raw = isinstance(reply, bytes)
        data = reply if raw else json.dumps(reply).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/octet-stream" if raw else "application/json")
        self.send_header("Content-Length", str(len(data)))
        # Connections that clients keep open would outlive the server.
        self.send_header("Connection", "close")
        for key, value in self.reply_headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def log_message(self, *_: object) -> None:
        """Silent: `HubServer.requests` is the log."""

    def _answer(self) -> Any:
        for fault in self.hub.faults:
            if fault[0] == self.command and fault[1] in self.path:
                self.hub.faults.remove(fault)
                if fault[2] is None:
                    raise ConnectionAbortedError
                raise HubError(fault[2], "failed on demand")
        path, trusted = urlsplit(self.path).path, self.headers["Authorization"] == f"Bearer {TOKEN}"
        for method, pattern, token, endpoint in _ROUTES:
            match = pattern.fullmatch(path)
            # A HEAD is a GET whose body is left out at the end.
            if not match or method != self.command.replace("HEAD", "GET"):
                continue
            if token and not trusted:
                raise HubError(401, "Invalid credentials in Authorization header")
            self.at = {key: unquote(part) for key, part in match.groupdict().items() if part}
            if "name" in self.at:
                self.repo = self.hub.repo(self.at.get("kind", "models"), self.at["name"])
                if self.repo.private and not trusted:
                    raise HubError(401, "Repository not found", "RepoNotFound")
                self.commit = self.repo.at(self.at.get("revision", "main"))
            return endpoint(self)
        raise self._gap("no such endpoint")

    def _gap(self, what: str) -> HubError:
        self.hub.unimplemented.append(f"{self.command} {self.path}")
        return HubError(501, f"{what} on the test Hub: {self.hub.unimplemented[-1]}")

    @property
    def form(self) -> Any:
        is_json = "json" in self.headers.get("Content-Type", "")
        return json.loads(self.body) if is_json else parse_qs(self.body.decode())

    @_route("GET", "/api/whoami-v2", token=True)
    def _whoami(self) -> Any:
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        return {"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": auth}

    @_route("POST", "/api/repos/create", token=True)
    def _create(self) -> Any:
        form, kind = self.form, self.form.get("type") or "model"
        if kind not in ("model", "dataset"):
            raise self._gap(f"no {kind}s")
        key = f"{kind}s", f"{form.get('organization') or USER}/{form['name']}"
        # With `exist_ok` the client reads the address from the 409, too.
        self.status = 409 if key in self.hub.repos else 200
        repo = self.hub.repos.setdefault(key, Repo(*key, form.get("visibility") == "private"))
        return {"url": f"{self.hub.url}/{repo.web_path}"}

    @_route("POST", "/api/validate-yaml")
    def _validate(self) -> Any:
        try:
            empty = not _card_metadata(Blob(self.form["content"].encode()))
        except HubError as error:
            self.status = 400
            return {"errors": [{"message": error.message}]}
        return {"warnings": [{"message": "empty or missing yaml metadata in repo card"}] * empty}

    @_route("GET", rf"{_API}(?:/revision{_REV})?")
    def _info(self) -> Any:
        if "?" in self.path:
            raise self._gap("no blobs, security or chosen fields")
        data = _card_metadata(self.commit.files.get("README.md"))
        info = {"id": self.repo.name, "sha": self.commit.sha, "lastModified": self.commit.date}
        state = {"private": self.repo.private, "gated": False, "disabled": False, "cardData": data}
        siblings = [{"rfilename": path} for path in sorted(self.commit.files)]
        return {**info, **state, "tags": data.get("tags", []), "siblings": siblings}

    @_route("GET", rf"{_API}/refs")
    def _refs(self) -> Any:
        def ref(name: str, folder: str) -> dict[str, str]:
            target = self.repo.at(name).sha
            return {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": target}

        tags = [ref(tag, "tags") for tag in self.repo.tags]
        return {"branches": [ref("main", "heads")], "tags": tags, "converts": []}

    @_route("POST", rf"{_API}/tag{_REV}", token=True)
    def _tag(self) -> Any:
        if (tag := self.form["tag"]) in self.repo.revisions:
            raise HubError(409, f"Reference already exists: {tag}")
        self.repo.tags.append(tag)
        self.repo.revisions[tag] = self.commit

    def _entries(self) -> list[dict[str, Any]]:
        """Every folder and file of the commit, as the two listing endpoints show them."""
        if b"expand=true" in (self.path.encode() + self.body).lower():
            raise self._gap("no last commits in listings")
        files = self.commit.files
        folders = {path[: slash.start()] for path in files for slash in re.finditer("/", path)}
        trees = [{"type": "directory", "path": path, "oid": "0" * 40} for path in sorted(folders)]
        return trees + [files[path].describe(path) for path in sorted(files)]

    @_route("GET", rf"{_API}/tree{_REV}(?:/(?P<folder>.+))?")
    def _tree(self) -> Any:
        prefix = self.at["folder"].strip("/") + "/" if "folder" in self.at else ""
        inside = [entry for entry in self._entries() if entry["path"].startswith(prefix)]
        if prefix and not inside:
            raise HubError(404, f"{prefix} does not exist", "EntryNotFound")
        deep = "recursive=true" in urlsplit(self.path).query.lower()
        return [entry for entry in inside if deep or "/" not in entry["path"][len(prefix) :]]

    @_route("POST", rf"{_API}/paths-info{_REV}")
    def _paths_info(self) -> Any:
        wanted = {path.strip("/") for path in self.form.get("paths", [])}
        return [entry for entry in self._entries() if entry["path"] in wanted]

    @_route("POST", rf"{_API}/preupload{_REV}", token=True)
    def _preupload(self) -> Any:
        def answer(path: str) -> dict[str, Any]:
            held = self.commit.files.get(path)
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            # The client leaves out of its commit every file whose id here equals its own.
            oid = held.etag if held else None
            return {"path": path, "uploadMode": mode, "oid": oid, "shouldIgnore": False}

        return {"files": [answer(entry["path"]) for entry in self.form["files"]]}

    @_route("POST", rf"{_GIT}\.git/info/lfs/objects/batch", token=True)
    def _lfs_batch(self) -> Any:
        verify = {"href": f"{self.hub.url}/{self.repo.web_path}.git/info/lfs/objects/verify"}
        objects = self.form["objects"]
        for entry in (entry for entry in objects if entry["oid"] not in self.hub.lfs):
            upload = {"href": f"{self.hub.url}/lfs/{entry['oid']}"}
            entry["actions"] = {"upload": upload, "verify": verify}
        return {"transfer": "basic", "objects": objects}

    # No token: like the storage behind the Hub, this address is its own permission.
    @_route("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})")
    def _lfs_put(self) -> Any:
        if hashlib.sha256(self.body).hexdigest() != self.at["oid"]:
            raise HubError(400, "the content is not what its id says")
        self.hub.lfs[self.at["oid"]] = self.body

    @_route("POST", rf"{_GIT}\.git/info/lfs/objects/verify", token=True)
    def _lfs_verify(self) -> Any:
        if len(self.hub.lfs.get(self.form["oid"], b"")) != self.form["size"]:
            raise HubError(404, "no such object of this size")

    @_route("POST", rf"{_API}/commit{_REV}", token=True)
    def _commit(self) -> Any:
        if self.at["revision"] != "main" or "create_pr" in self.path:
            raise self._gap("no commits but to main")
        files = dict(self.commit.files)
        for item in map(json.loads, self.body.splitlines()):
            key, value, path = item["key"], item["value"], item["value"].get("path", "")
            if key == "header":
                if value.get("parentCommit", self.commit.sha) != self.commit.sha:
                    raise HubError(412, "A commit has happened since. Please refresh.")
            elif key == "file":
                files[path] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile" and value["oid"] in self.hub.lfs:
                files[path] = Blob(self.hub.lfs[value["oid"]], lfs=True)
            elif key in ("deletedFile", "deletedFolder"):
                prefix = path.rstrip("/") + "/" if key == "deletedFolder" else "\0"
                gone = [file for file in files if file == path or file.startswith(prefix)]
                if not gone:
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
                files = {file: files[file] for file in files if file not in gone}
            else:
                raise HubError(400, f"cannot {key} {path}: never uploaded, or unknown here")
        _card_metadata(files.get("README.md"))
        sha = self.repo.commit(files).sha
        return {"commitOid": sha, "commitUrl": f"{self.hub.url}/{self.repo.web_path}/commit/{sha}"}

    @_route("GET", rf"{_GIT}/resolve{_REV}/(?P<path>.+)")
    def _resolve(self) -> Any:
        if self.at["path"] not in self.commit.files:
            raise HubError(404, "Entry not found", "EntryNotFound")
        blob = self.commit.files[self.at["path"]]
        size, etag = len(blob.data), f'"{blob.etag}"'
        headers = {"ETag": etag, "X-Repo-Commit": self.commit.sha, "Accept-Ranges": "bytes"}
        lfs = {"X-Linked-Size": str(size), "X-Linked-ETag": etag}
        self.reply_headers = headers | (lfs if blob.lfs else {})
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked or not any(asked.groups()):
            return blob.data
        first, last = asked.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        self.status = 206 if start < stop else 416
        part = f"{start}-{stop - 1}" if start < stop else "*"
        self.reply_headers["Content-Range"] = f"bytes {part}/{size}"
        return blob.data[start:stop]


class _Server(ThreadingHTTPServer):
    """Does not hold up the interpreter when a test forgets it."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Shows a fault of this server, but not that a client hung up, which is its right."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
