"""Debian's nginx with the configuration of docs/self-hosting.md, as a child process on loopback."""

import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engines.certificate import issue
from tests.ops.examples import example, with_changes

NAME = "chat.example"

_AROUND = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log {folder}/other.log; # the one that is built in needs a folder of the system's
    include {folder}/makoto.conf;
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for an HTTP request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxProcess:
    """A running nginx.

    Attributes:
        tls_port: where it serves HTTPS.
        plain_port: where it redirects from.
        folder: of its files; `access.log` is what the configuration writes.
    """

    tls_port: int
    plain_port: int
    folder: Path

    def trust(self) -> ssl.SSLContext:
        """Return a context that accepts the test's certificate for its name, and nothing else."""
        return ssl.create_default_context(cafile=str(self.folder / "fullchain.pem"))

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Ask over HTTPS; `path` may have a query."""
        plain = socket.create_connection(("127.0.0.1", self.tls_port), timeout=10)
        with closing(http.client.HTTPConnection(NAME, self.tls_port)) as connection:
            connection.sock = self.trust().wrap_socket(plain, server_hostname=NAME)
            return exchange(connection, method, path, headers=headers, body=body)


def nginx_program() -> str:
    """Return the path of nginx; without one the test is skipped, in CI it fails."""
    unpacked = Path(sys.prefix) / "engines/usr/sbin"
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:{unpacked}")
    if found is None:
        reason = "nginx is missing: apt-get install nginx-light"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """Send one request and read the whole answer."""
    connection.request(method, path, body=body, headers=dict(headers or {}))
    response = connection.getresponse()
    return Reply(status=response.status, headers=response.headers, body=response.read())


@contextmanager
def running_nginx(folder: Path, *, gateway_port: int) -> Iterator[NginxProcess]:
    """Serve the gateway at `https://chat.example` of loopback until the block ends."""
    program = nginx_program()
    certificate = issue(folder, NAME)
    certificate.file.rename(folder / "fullchain.pem")
    certificate.key_file.rename(folder / "privkey.pem")
    ports = _free_ports(2)
    nginx = NginxProcess(tls_port=ports[0], plain_port=ports[1], folder=folder)
    (folder / "makoto.conf").write_text(_configuration(nginx, gateway_port))
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder))
    errors = folder / "error.log"
    with subprocess.Popen(
        [program, "-e", str(errors), "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for(nginx.tls_port, process, errors)
            yield nginx
        finally:
            process.terminate()
            process.wait(timeout=10)


def _configuration(nginx: NginxProcess, gateway_port: int) -> str:
    written = re.sub(
        r"^ *listen \[::\].*\n", "", example("docs/self-hosting.md", "nginx"), flags=re.M
    )
    return with_changes(
        written,
        {
            "listen 80;": f"listen 127.0.0.1:{nginx.plain_port};",
            "listen 443 ssl;": f"listen 127.0.0.1:{nginx.tls_port} ssl;",
            "127.0.0.1:8765": f"127.0.0.1:{gateway_port}",
            "/etc/letsencrypt/live/chat.example": str(nginx.folder),
            "/var/log/nginx/makoto.log": str(nginx.folder / "access.log"),
        },
    )


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in with_ports]
    for each in with_ports:
        each.close()
    return ports


def _wait_for(port: int, process: "subprocess.Popen[bytes]", errors: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
        else:
            return
