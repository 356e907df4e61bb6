"""nginx and haproxy with a limit on a key's requests, each in front of a simulated model without any limit.

Their configuration is written here, so that it is known which limiter it is and with which parameters:

- nginx `limit_req`: requests flow back at the rate; what comes at once is `burst` and the one that is being served.
- haproxy `http_req_rate` and `gpc0_rate`: the count of this period and the share of the last one that is still to come;
  periods begin at the key's first request after a silence. The first counts each request, refused or not; the second
  what a rule counts, here what passes.
- haproxy `http_req_cnt` in a table that is cleared through its socket at each multiple of the window.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

__all__ = ["MissingError", "free_port", "haproxy", "haproxy_cleared", "nginx", "serving"]


class MissingError(Exception):
    """A server that is not installed; its text says how to have it."""


def free_port() -> int:
    """A port of loopback that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    # Debian keeps them where an ordinary user's PATH does not look.
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        raise MissingError(f"{name} is not installed (Debian, Ubuntu: apt-get install {name})")
    return found


@contextmanager
def serving(
    command: list[str], ready: str, folder: Path, *, ready_s: float = 20.0, environment: dict[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the block is left; it is ready when the address answers, whatever it answers.

    Raises RuntimeError with its last words if it does not come up.
    """
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, env=environment
        )
    try:
        opener, until_s = build_opener(ProxyHandler({})), time.monotonic() + ready_s
        while True:
            try:
                opener.open(ready, timeout=5).close()
                break
            except HTTPError as answer:
                answer.close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until_s:
                    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
                    raise RuntimeError(f"it did not start: {' / '.join(said) or error}") from None
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def nginx(folder: Path, model_port: int, *, rate: str, burst: int, refuses_with: int | None) -> Iterator[str]:
    """Run nginx with `limit_req` at a rate such as `60r/m`, keyed by the Authorization header; gives the base URL."""
    program, port = _program("nginx"), free_port()
    status = "" if refuses_with is None else f"limit_req_status {refuses_with};"
    # As root its worker would be another user, who may not enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    kept = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path = folder / "nginx.conf"
    path.write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit; {user}
events {{ worker_connections 1024; }}
http {{
  access_log off; {kept}
  limit_req_zone $http_authorization zone=keys:1m rate={rate};
  upstream model {{ server 127.0.0.1:{model_port}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location = /ready {{ return 204; }}
    location /v1/ {{
      limit_req zone=keys burst={burst} nodelay; {status}
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
""",
        encoding="utf-8",
    )
    with serving([program, "-c", str(path), "-e", "stderr"], f"http://127.0.0.1:{port}/ready", folder):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def haproxy(folder: Path, model_port: int, *, table: str, rules: tuple[str, ...]) -> Iterator[str]:
    """Run haproxy with a stick table of keys and rules on each request to `/v1/`; gives the base URL."""
    program, port = _program("haproxy"), free_port()
    path = folder / "haproxy.cfg"
    said = "\n  ".join(f"http-request {rule}" for rule in rules)
    path.write_text(
        f"""global
  maxconn 500
  stats socket {folder}/haproxy.sock mode 600 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend api
  bind 127.0.0.1:{port}
  http-request return status 204 if {{ path /ready }}
  stick-table type string len 128 size 1k {table}
  {said}
  default_backend model
backend model
  server simulated 127.0.0.1:{model_port}
""",
        encoding="utf-8",
    )
    with serving([program, "-db", "-f", str(path)], f"http://127.0.0.1:{port}/ready", folder):
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def haproxy_cleared(
    folder: Path, model_port: int, *, table: str, rules: tuple[str, ...], window_s: float
) -> Iterator[str]:
    """Run the same with the table cleared at each multiple of the window, as a timer beside haproxy would."""
    over = threading.Event()

    def clear() -> None:
        while not over.wait(window_s - time.time() % window_s):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as control:
                control.settimeout(5)
                control.connect(str(folder / "haproxy.sock"))
                control.sendall(b"clear table api\n")
                control.recv(1024)

    clearing = threading.Thread(target=clear, daemon=True)
    with haproxy(folder, model_port, table=table, rules=rules) as base_url:
        clearing.start()
        try:
            yield base_url
        finally:
            over.set()
            clearing.join()
