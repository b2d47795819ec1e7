"""Contexts of builds: archives unpacked, repositories fetched, and nothing that leads out."""

from __future__ import annotations

import io
import subprocess
import tarfile
import threading
from collections.abc import AsyncGenerator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from pipeline.adapters.http.guarded import GuardedHttp
from pipeline.adapters.http.resolving import Rules
from pipeline.agent.builds.contexts import Contexts, read_dockerfile, unpack
from pipeline.errors import AddressRefused, BuildFailed, InvalidInput, YardError
from pipeline.records.kernel import now
from pipeline.settings import Settings
from schemas.image import Build, BuildSpec
from tests.support.http.certificates import Authority

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t")


def archive(folder: Path, *entries: tuple[str, str, bytes]) -> Path:
    """Of names, kinds (`file`, `link`, `hard`) and contents or targets."""
    path = folder / "context.tar"
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            if kind == "file":
                entry.size, entry.mode = len(content), 0o4755
                tar.addfile(entry, io.BytesIO(content))
                continue
            entry.type = tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE
            entry.linkname = content.decode()
            tar.addfile(entry)
    return path


def test_what_was_sent_lies_in_the_folder_without_special_bits(tmp_path: Path) -> None:
    sent = archive(
        tmp_path, ("a/run", "file", b"x"), ("b", "link", b"a/run"), ("c", "hard", b"a/run")
    )
    unpack(sent, tmp_path / "into")
    assert (tmp_path / "into/b").read_text() == (tmp_path / "into/c").read_text() == "x"
    assert (tmp_path / "into/a/run").stat().st_mode & 0o7777 == 0o755


def test_the_folder_itself_may_be_an_entry(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\n")
    sent = tmp_path / "context.tar"
    subprocess.run(["tar", "-C", tmp_path / "context", "-cf", sent, "."], check=True)
    unpack(sent, tmp_path / "into")
    assert read_dockerfile(tmp_path / "into", "Dockerfile") == "FROM scratch\n"


@pytest.mark.parametrize(
    "entries",
    [
        [("../x", "file", b"")],
        [("/x", "file", b"")],
        [("l", "link", b"../x")],
        [("l", "link", b"/etc")],
        [("l", "hard", b"../x")],
        # Each link stays inside, and both together lead out.
        [("d/l", "link", b".."), ("m", "link", b"d/l/.."), ("m/evil", "file", b"")],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, entries: list[tuple[str, str, bytes]]) -> None:
    (tmp_path / "deep").mkdir()
    with pytest.raises(YardError):
        unpack(archive(tmp_path, *entries), tmp_path / "deep/into")
    assert sorted(path.name for path in tmp_path.rglob("*") if "into" not in path.parts) == [
        "context.tar",
        "deep",
    ]


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(InvalidInput):
        unpack(tmp_path / "x", tmp_path / "into")


def test_a_dockerfile_is_read_inside_its_context_only(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "D").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInput):
        read_dockerfile(context, "D")
    with pytest.raises(BuildFailed, match="no Dockerfile"):
        read_dockerfile(context, "Dockerfile")


# --- repositories


class _Backend(BaseHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        env = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(command, env=env, input=body, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address; the branch `other` has another Dockerfile than the first one."""
    work, root = tmp_path / "work", tmp_path / "served"
    subprocess.run(["git", "init", "-q", "-b", "main", str(work)], check=True)
    for branch in ("main", "other"):
        if branch == "other":
            subprocess.run([*GIT, "checkout", "-q", "-b", branch], cwd=work, check=True)
        (work / "Dockerfile").write_text(f"FROM scratch # {branch}\n")
        subprocess.run([*GIT, "add", "."], cwd=work, check=True)
        subprocess.run([*GIT, "commit", "-qm", branch], cwd=work, check=True)
    subprocess.run([*GIT, "checkout", "-q", "main"], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(root / "a.git")], check=True)
    authority = Authority()
    (tmp_path / "ca.pem").write_text(
        authority._certificate.public_bytes(serialization.Encoding.PEM).decode()
    )
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "ca.pem"))
    handler = type("Backend", (_Backend,), {"root": root})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = authority.server("localhost").wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_address[1]}/a.git"
    server.shutdown()
    server.server_close()


async def nobody(build: str, asked: bytes) -> AsyncGenerator[bytes, None]:
    raise AssertionError("nothing is sent")
    yield b""


async def cloned(url: str, ref: str | None, folder: Path, *, local: bool = True) -> Path:
    spec = BuildSpec(name="a", git_url=url, git_ref=ref)
    build = Build(
        uuid="b",
        org="acme",
        created_at=now(),
        updated_at=now(),
        name="a",
        spec=spec,
        source=spec.source,
        node="n",
        node_name="n",
    )
    folder.mkdir()
    async with GuardedHttp.open(Rules(allow_local=local)) as http:
        return await Contexts(http, nobody, Settings()).obtain(build, folder)


async def test_a_repository_is_fetched_at_the_branch_that_is_wanted(
    repository: str, tmp_path: Path
) -> None:
    for ref, branch in ((None, "main"), ("other", "other")):
        context = await cloned(repository, ref, tmp_path / branch)
        assert read_dockerfile(context, "Dockerfile") == f"FROM scratch # {branch}\n"
        assert not (context / ".git").exists()


async def test_a_node_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="no git"):
        await cloned("https://localhost/a.git", None, tmp_path / "a")


async def test_what_cannot_be_fetched_is_told(repository: str, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="could not be fetched"):
        await cloned(repository, "nowhere", tmp_path / "a")
    with pytest.raises(AddressRefused):
        await cloned(repository, None, tmp_path / "b", local=False)
