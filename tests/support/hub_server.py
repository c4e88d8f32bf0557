"""A stand-in for the Hugging Face hub: repositories of models in memory, over HTTP on this machine.

It speaks what ``huggingface_hub`` asks of the true one to make a repository, to push (preupload,
LFS, commit) and to fetch (information, tree, files with their etags).
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_tests"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        headers.setdefault("Content-Length", str(len(data)))
        headers.setdefault("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, code, error):
        self.answer(code, {"error": error}, X_Error_Code=error, X_Error_Message=error)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    @property
    def may_write(self):
        return self.headers.get("Authorization") == f"Bearer {self.server.state.token}"

    def repository(self, name):
        """The repository, unless the one who asks may not know of it."""
        found = self.server.state.repositories.get(name)
        if found is None or (found.private and not self.may_write):
            return self.refuse(401 if not self.may_write else 404, "RepoNotFound")
        if found.gated and not self.may_write:
            return self.refuse(403, "GatedRepo")
        return found

    def commit_of(self, repository, revision):
        found = repository.branches.get(revision, revision)
        if found not in repository.commits:
            self.refuse(404, "RevisionNotFound")
            return None
        return found

    def do_POST(self):
        path, data = unquote(urlsplit(self.path).path), self.body()
        self.server.state.asked.append(("POST", path))
        if not self.may_write:
            return self.refuse(401, "Unauthorized")
        if path == "/api/validate-yaml":
            errors = _errors(json.loads(data))
            return self.answer(400 if errors else 200, {"errors": errors, "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(data))
        if found := re.fullmatch(r"/api/models/(\w+/[\w.-]+)/(\w+)/(.+)", path):
            name, what, revision = found.groups()
            if (repository := self.repository(name)) is None:
                return None
            return getattr(self, what)(name, repository, revision, data)
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(data))
        return self.refuse(404, f"no {path}")

    def create(self, asked):
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        repositories = self.server.state.repositories
        if asked["organization"] not in (None, "me"):
            return self.refuse(403, "You may not create a model there")
        if name in repositories:
            return self.answer(409, {"url": f"{self.server.address}/{name}", "error": "exists"})
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repositories[name] = repository(private=private)
        return self.answer(200, {"url": f"{self.server.address}/{name}", "id": name})

    def branch(self, _, repository, branch, __):
        if branch in repository.branches:
            return self.answer(409, {"error": "exists"})
        repository.branches[branch] = repository.branches["main"]
        return self.answer(200, {})

    def preupload(self, _, __, ___, data):
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith("safetensors") else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(data)["files"]
        ]
        return self.answer(200, {"files": files})

    def batch(self, asked):
        there = self.server.state.objects
        objects = [
            {
                **one,
                **(
                    {}
                    if one["oid"] in there
                    else {
                        "actions": {
                            "upload": {"href": f"{self.server.address}/objects/{one['oid']}"}
                        }
                    }
                ),
            }
            for one in asked["objects"]
        ]
        return self.answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, name, repository, revision, data):
        files = dict(repository.commits[repository.branches[revision]])
        for line in map(json.loads, data.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.state.objects[value["oid"]]
        number = hashlib.sha1(data + revision.encode()).hexdigest()
        repository.commits[number] = files
        repository.branches[revision] = number
        url = f"{self.server.address}/{name}/commit/{number}"
        return self.answer(200, {"commitUrl": url, "commitOid": number})

    def do_PUT(self):
        data = self.body()
        if sha256(data) != self.path.rpartition("/")[2]:
            return self.refuse(400, "another sum")
        self.server.state.objects[sha256(data)] = data
        return self.answer(200)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.state.asked.append((self.command, path))
        if found := re.fullmatch(
            r"/api/models/(\w+/[\w.-]+?)(?:/(revision|tree)/(.+?))?(?:/)?", path
        ):
            name, what, revision = found.groups()
        elif found := re.fullmatch(r"/(\w+/[\w.-]+?)/(resolve)/([^/]+)/(.+)", path):
            name, what, revision = found.groups()[:3]
        else:
            return self.refuse(404, f"no {path}")
        if (repository := self.repository(name)) is None:
            return None
        commit = self.commit_of(repository, revision or "main")
        if commit is None:
            return None
        files = repository.commits[commit]
        if what == "tree":
            return self.answer(200, [_entry(*one) for one in sorted(files.items())])
        if what == "resolve":
            return self.file(commit, files.get(found[4]))
        siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
        about = {"_id": name, "id": name, "modelId": name, "sha": commit, "siblings": siblings}
        return self.answer(200, {**about, "private": repository.private})

    def file(self, commit, data):
        if data is None:
            return self.refuse(404, "EntryNotFound")
        headers = {"ETag": f'"{sha256(data)}"', "X_Repo_Commit": commit}
        return self.answer(200, data, Content_Type="application/octet-stream", **headers)


def _errors(asked):
    """What is wrong with a card: the true hub refuses it."""
    from huggingface_hub import ModelCardData  # which reads HF_ENDPOINT as it is imported

    front = re.match(r"---\n(.*?)\n---\n", asked["content"], re.DOTALL)
    try:
        data = yaml.safe_load(front[1])
        ModelCardData(**data)
    except Exception as error:
        return [{"message": str(error)}]
    wanted = {"library_name", "tags", "pipeline_tag", "metrics"}
    return [{"message": f"no {name}"} for name in sorted(wanted.difference(data))]


def _entry(path, data):
    about = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
    if path.endswith("safetensors"):
        about["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return about


def repository(files=None, *, private=False, gated=False):
    """A repository of one commit."""
    first = "0" * 40
    return SimpleNamespace(
        private=private, gated=gated, commits={first: dict(files or {})}, branches={"main": first}
    )


@contextmanager
def hub_server():
    """Serve a hub; what it yields has ``url``, ``repositories``, ``asked`` and ``token``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.daemon_threads = True
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.state = SimpleNamespace(
        url=server.address, repositories={}, objects={}, asked=[], token=TOKEN
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
