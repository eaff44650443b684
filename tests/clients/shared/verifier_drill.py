"""The drill of an offline verifier with a real server: verifier_drill.py --binary BINARY -- PROGRAM…

The program follows the server that its environment names (KEYWARD_TARGET, KEYWARD_ISSUER, KEYWARD_AUDIENCE,
KEYWARD_CLIENT_ID, KEYWARD_CLIENT_SECRET) with its verifier. It reads lines, and answers each with a line:

    ready             `ready`, when keys and revocations are read
    verify TOKEN      `accepted`, or the reason of tests/vectors/README.md
    measure N TOKEN   the microseconds of a verification, of N

The drill revokes tokens by each level and measures how long they are accepted. Then a proxy between both holds
all bytes. Meanwhile a token is revoked, and the server forgets what it would continue from: the verifier must refuse
all tokens once its data is too old, and must never accept the revoked one again.
"""

import argparse
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

from with_servers import Desk, SCOPES, Server, serving

MAX_LAG = 5
REVOKED_TOKENS = 50
MEASURED = 2000
PATIENCE = 60
# The held connection must not delay the end of the server.
SETTINGS = {"KEYWARD_ISSUER": "https://id.example", "KEYWARD_LIMITS_SHUTDOWN_GRACE": "1s"}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Credential = tuple[str, str]


class Proxy:
    """Passes on connections to a server, or holds all bytes."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.passing = threading.Event()
        self.passing.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            host, port = self.upstream.split(":")
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.passing.wait()
                sink.sendall(data)
        for end in (source, sink):
            end.close()

    def hold(self) -> None:
        self.passing.clear()

    def release(self, upstream: str) -> None:
        """Cuts what was held. New connections reach this server."""
        self.upstream = upstream
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.passing.set()


class Program:
    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: str) -> str:
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"the program ended with {self.process.wait()}")
        return answer

    def verify(self, token: str) -> str:
        return self.ask(f"verify {token}")

    def until(self, answer: str, token: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while (said := self.verify(token)) != answer:
            if time.monotonic() > deadline:
                raise AssertionError(f"{said}, and not {answer}")

    def end(self) -> None:
        self.process.stdin.close()
        code = self.process.wait(PATIENCE)
        assert code == 0, f"the program ended with {code}"


def post(server: Server, path: str, credential: Credential, **form: str) -> dict[str, object]:
    basic = b64encode(":".join(credential).encode()).decode()
    request = urllib.request.Request(
        f"{server.http}{path}",
        data=urllib.parse.urlencode(form).encode(),
        headers={"Authorization": f"Basic {basic}"},
    )
    with _DIRECT.open(request, timeout=10) as answer:
        return json.load(answer)


def issue(server: Server, credential: Credential) -> str:
    answer = post(server, "/oauth2/token", credential, grant_type="client_credentials")
    return str(answer["access_token"])


class Prepared:
    """Two tenants, and applications to revoke."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        for tenant in ("acme", "closed"):
            audience = ["--default-audience", "https://api.example"]
            desk.run("tenant", "create", tenant, "--display-name", tenant, *audience)
            desk.run("scope", "create", f"{tenant}/{SCOPES[0]}", "--display-name", "Read")
        names = ["acme/crm", "acme/other", "acme/lost", "closed/crm"]
        self.clients = {name: self.client(name, SCOPES[0]) for name in names}
        self.verifier = self.client("system/verifier", "keyward.verify")

    def client(self, name: str, scope: str) -> Credential:
        self.desk.run("application", "create", name, "--display-name", name, "--scope", scope)
        made = self.desk.run("credential", "create", name)
        return made["client_id"], made["secret"]

    def revoke(self, name: str) -> None:
        self.desk.run("revoke-tokens", name, "--yes")


def environment(server: Server, target: str, credential: Credential) -> dict[str, str]:
    return {
        "KEYWARD_TARGET": target,
        "KEYWARD_ISSUER": server.issuer,
        "KEYWARD_AUDIENCE": "https://api.example",
        "KEYWARD_CLIENT_ID": credential[0],
        "KEYWARD_CLIENT_SECRET": credential[1],
    }


def levels(program: Program, server: Server, prepared: Prepared) -> None:
    """A revocation of each level is refused, and nothing else is."""
    good = issue(server, prepared.clients["acme/crm"])
    for name, revoked in [("acme/other", "acme/other"), ("closed/crm", "closed")]:
        token = issue(server, prepared.clients[name])
        assert program.verify(token) == "accepted", name
        prepared.revoke(revoked)
        program.until("revoked", token)
        newer = issue(server, prepared.clients[name])
        assert program.verify(newer) == "accepted", f"a new token of {name}"
    client_id, _ = prepared.clients["acme/other"]
    token = issue(server, prepared.clients["acme/other"])
    prepared.desk.run("credential", "delete", f"acme/other/{client_id}", "--yes")
    program.until("revoked", token)
    assert program.verify(good) == "accepted"
    assert program.verify(f"{good[:-4]}AAAA") == "bad_signature"


def delays(program: Program, server: Server, credential: Credential) -> list[float]:
    """The milliseconds from the answer that a token is revoked until it is refused."""
    measured = []
    for _ in range(REVOKED_TOKENS):
        token = issue(server, credential)
        assert program.verify(token) == "accepted"
        post(server, "/oauth2/revoke", credential, token=token)
        answered = time.monotonic()
        program.until("revoked", token)
        measured.append((time.monotonic() - answered) * 1000)
    return sorted(measured)


def lose(program: Program, server: Server, proxy: Proxy, prepared: Prepared) -> tuple[str, str]:
    """Holds the feed until its data is too old. Returns a good token, and one that was revoked meanwhile."""
    good, lost = (issue(server, prepared.clients[name]) for name in ("acme/crm", "acme/lost"))
    assert [program.verify(token) for token in (good, lost)] == ["accepted", "accepted"]
    proxy.hold()
    held = time.monotonic()
    prepared.revoke("acme/lost")
    assert program.verify(good) == "accepted", "within the bound"
    time.sleep(held + MAX_LAG + 0.1 - time.monotonic())
    assert [program.verify(token) for token in (good, lost)] == ["feed_lost", "feed_lost"]
    return good, lost


def forget(data: Path) -> None:
    """Lets every cursor be too old, as after a purge."""
    database = sqlite3.connect(data / "keyward.db")
    with database:
        database.execute("update revocation_feed set purged_through = last_number")
    database.close()


def recover(program: Program, good: str, lost: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (said := program.verify(good)) != "accepted":
        assert said == "feed_lost", said
        # The answer for the good token was before: now it may be accepted.
        assert program.verify(lost) in ("feed_lost", "revoked")
        assert time.monotonic() < deadline, "the verifier does not recover"
    assert program.verify(lost) == "revoked"


def main() -> int:
    parser = argparse.ArgumentParser(description="The drill of an offline verifier")
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(options.binary, folder, SETTINGS) as server:
            prepared = Prepared(Desk(options.binary, server, None))
            proxy = Proxy(server.grpc)
            settings = environment(server, proxy.target, prepared.verifier)
            program = Program(options.command, settings)
            assert program.ask("ready") == "ready"
            levels(program, server, prepared)
            measured = delays(program, server, prepared.clients["acme/crm"])
            good, lost = lose(program, server, proxy, prepared)
        forget(folder / "data")
        with serving(options.binary, folder, SETTINGS) as server:
            proxy.release(server.grpc)
            recover(program, good, lost)
            cost = program.ask(f"measure {MEASURED} {good}")
            program.end()
    p99 = measured[-max(1, len(measured) // 100)]
    print(
        f"verifier: refused {statistics.median(measured):.1f} ms after a revocation (p50), {p99:.1f} ms (p99 of "
        f"{len(measured)}); lost after {MAX_LAG} s, recovered by a snapshot; {cost} µs a verification"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
