"""The real server in a separate process."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

START_SECONDS = 60
# More than the server's shutdown grace.
STOP_SECONDS = 30
POLL_SECONDS = 0.02

# The catalogue of the tenant, and the scopes of every client.
SCOPES = ["calls.read", "calls.write"]

# A proxy of the environment is not for servers on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """The addresses of the server, and its first admin credential."""

    grpc: str
    http: str
    issuer: str
    client_id: str
    client_secret: str


@dataclass(frozen=True)
class Client:
    """A credential of an application, with its secret."""

    application: str
    credential: str
    client_id: str
    client_secret: str


@contextmanager
def serving(
    binary: Path, folder: Path, settings: dict[str, str] | None = None
) -> Iterator[Server]:
    """Runs a server on free ports, with its data in `folder`, and these settings in its environment."""
    out, log = folder / "stdout", folder / "stderr"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        listen = [f"--{face}=127.0.0.1:0" for face in ("grpc", "http", "ops")]
        process = subprocess.Popen(
            [binary, "serve", "--data-dir", folder / "data", *listen],
            env=_environment() | (settings or {}),
            stdout=stdout,
            stderr=stderr,
        )
    try:
        yield _started(process, folder / "data", log)
    finally:
        code = _stop(process)
    assert code == 0, f"the server ended with {code}:\n{log.read_text()}"


def _environment() -> dict[str, str]:
    """The settings of every server: a JSON log, which contains the ports, and no draining."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("KEYWARD_")}
    return ours | {
        "KEYWARD_TELEMETRY_LOG_FORMAT": "json",
        "KEYWARD_LIMITS_DRAIN_TIME": "0s",
    }


def _started(process: subprocess.Popen[bytes], data: Path, log: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS

    def wait_for(what: str, look: Callable[[], T | None]) -> T:
        while (found := look()) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {what}; the log says:\n{log.read_text()}")
            time.sleep(POLL_SECONDS)
        return found

    at = wait_for("word of the server's ports", lambda: _serving_event(log))
    wait_for("readiness", lambda: _ready(at["ops"]))
    written = (data / "admin.env").read_text()
    found = dict(re.findall(r"^export (\w+)=(\S+)$", written, re.MULTILINE))
    return Server(
        grpc=at["grpc"],
        http=f"http://{at['http']}",
        issuer=at["issuer"],
        client_id=found["KEYWARD_CLIENT_ID"],
        client_secret=found["KEYWARD_CLIENT_SECRET"],
    )


def _serving_event(log: Path) -> dict[str, str] | None:
    whole_lines = log.read_text().split("\n")[:-1]
    for line in filter(lambda line: line.startswith("{"), whole_lines):
        event = json.loads(line)["fields"]
        if event.get("message") == "serving":
            return event
    return None


def _ready(ops: str) -> bool | None:
    try:
        with _DIRECT.open(f"http://{ops}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return None


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
