"""The drills: a real server, a load, and three verifiers that verify every token.

A verifier is a process that gets the URL of the key set, the issuer and the audience. It reads lines of
a kind, a time in milliseconds since 1970, and a token:

    token   it must verify
    junk    it must be refused: its key does not exist
    watch   the verifier writes at once `accepted`, or why it refuses the token

At the end of its input it writes its figures as a line of JSON.

Keyward publishes a key for ten minutes before it signs: twice the time for which verifiers may cache the
set. So the real interval of rotations is ten minutes (`--unprepared`). For another key each second, the
keys are made before: through the interface, on a server whose next key is made active each time, by its
row in the database. Then, with the server stopped, the times of all are set there: they were created
eleven minutes ago, and activate one second after the other. That is all that differs. The set therefore
has one key for each second of the drill, where it otherwise has ten at most.
"""

import argparse
import base64
import json
import os
import queue
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import requests
from harness import Server, serving

# How long before it signs a key is published, with a margin.
PUBLISHED_FOR = 11 * 60
# Until the load runs: the server starts again, and the verifiers.
LEAD = 6.0
MICROS = 1_000_000
# The most keys that the set has without prepared ones: the next one, the active one, and those that
# signed in the last 70 minutes, one each ten minutes.
MAX_KEYS = 10
# Longer than a verifier here caches the key set; less than the life of a token, 15 minutes.
COMPROMISE_SECONDS = 12 * 60

Answer = dict[str, Any]


class Verifier:
    """A verifier's process. Its lines are queued, so that a slow one does not hold up the others."""

    def __init__(self, name: str, command: list[str | Path], server: Server) -> None:
        self.name = name
        jwks = f"{server.http}/oauth2/jwks"
        self.process = subprocess.Popen(
            [*command, jwks, server.issuer, "keyward"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.feeder = threading.Thread(target=self._feed)
        self.feeder.start()

    def _feed(self) -> None:
        pipe = self.process.stdin
        while (line := self.lines.get()) is not None:
            pipe.write(line)
            if self.lines.empty():
                pipe.flush()
        pipe.close()

    def send(self, kind: str, issued: str, token: str) -> None:
        self.lines.put(f"{kind} {issued} {token}\n")

    def watch(self, token: str) -> str:
        self.send("watch", "0", token)
        return self.process.stdout.readline().strip()

    def figures(self) -> Answer:
        self.lines.put(None)
        self.feeder.join()
        return json.loads(self.process.stdout.readline())


def verifiers(tools: Path, server: Server) -> list[Verifier]:
    commands = {
        "PyJWT": [sys.executable, Path(__file__).with_name("verifier.py")],
        "jose": ["node", tools / "verifier.mjs"],
        "go-oidc": [tools / "verifier"],
    }
    return [Verifier(name, command, server) for name, command in commands.items()]


class Keys:
    """`keyward keys` on this server."""

    def __init__(self, binary: Path, server: Server) -> None:
        self.binary = binary
        self.server = server

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        theirs = {k: v for k, v in os.environ.items() if not k.startswith("KEYWARD_")}
        ours = {
            "KEYWARD_SERVER": f"http://{self.server.grpc}",
            "KEYWARD_CLIENT_ID": self.server.client_id,
            "KEYWARD_CLIENT_SECRET": self.server.client_secret,
        }
        return subprocess.run(
            [self.binary, "keys", *arguments, "--output", "json"],
            env=theirs | ours,
            capture_output=True,
            text=True,
        )

    def rotate(self) -> str | None:
        """The key that signs next; `None`: one waits already. Anything else is an error."""
        done = self.run("rotate")
        if done.returncode == 0:
            return json.loads(done.stdout)["key"]
        if "waits already" in done.stderr:
            return None
        raise RuntimeError(f"keys rotate: {done.stderr}")


def published(server: Server) -> list[str]:
    answer = requests.get(f"{server.http}/oauth2/jwks", timeout=10)
    answer.raise_for_status()
    return [key["kid"] for key in answer.json()["keys"]]


def exchange(server: Server) -> str:
    answer = requests.post(
        f"{server.http}/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(server.client_id, server.client_secret),
        timeout=10,
    )
    answer.raise_for_status()
    return answer.json()["access_token"]


def decoded(part: str) -> Answer:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def kid(token: str) -> str:
    return decoded(token.split(".")[0])["kid"]


def junk(token: str) -> str:
    """The token, of a key that does not exist."""
    header, payload, signature = token.split(".")
    made_up = decoded(header) | {"kid": secrets.token_urlsafe(32)}
    header = base64.urlsafe_b64encode(json.dumps(made_up).encode()).rstrip(b"=")
    return f"{header.decode()}.{payload}.{signature}"


def prepare(binary: Path, folder: Path, count: int) -> float:
    """Makes the keys of the drill. Returns when the first of them signs."""
    file = folder / "data" / "keyward.db"
    tables = ("signing_keys", "signing_key_history")
    with serving(binary, folder) as server:
        keys = Keys(binary, server)
        for _ in range(count):
            made = keys.rotate()
            assert made, "the key before it is active"
            database = sqlite3.connect(file, timeout=10)
            with database:
                for table in tables:
                    database.execute(
                        f"update {table} set activates_at = ? where id = ?",
                        (int(time.time() * MICROS) - 1, made),
                    )
            database.close()
    first = time.time() + LEAD
    created = int((time.time() - PUBLISHED_FOR) * MICROS)
    database = sqlite3.connect(file)
    with database:
        for table in tables:
            database.execute(
                f"update {table} set created_at = ?, activates_at = ? + (generation - 2) * ? "
                "where generation > 1 and activates_at < ?",
                (created, int(first * MICROS), MICROS, int(time.time() * MICROS)),
            )
    database.close()
    return first


def each_second(until: float):
    """The seconds until then, at which something is done."""
    second = time.time()
    while second < until:
        yield second
        second += 1
        time.sleep(max(0.0, second - time.time()))


def rotation(options: argparse.Namespace, folder: Path) -> list[str]:
    """The drill of rotation. Returns what went wrong."""
    begins = time.time()
    if not options.unprepared:
        begins = prepare(options.binary, folder, options.seconds)
    with serving(options.binary, folder) as server:
        asked = time.time()
        keys = Keys(options.binary, server)
        all_verifiers = verifiers(options.tools, server)
        seconds = max(begins - asked, 0) + options.seconds
        load = subprocess.Popen(
            [
                options.tools / "load",
                f"-url={server.http}/oauth2/token",
                f"-rate={options.rate}",
                f"-seconds={seconds}",
            ],
            env=os.environ
            | {
                "KEYWARD_CLIENT_ID": server.client_id,
                "KEYWARD_CLIENT_SECRET": server.client_secret,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        found: dict[str, Any] = {"signers": []}

        def pass_on() -> None:
            for line in load.stdout:
                if line.startswith("{"):
                    found["load"] = json.loads(line)
                    return
                issued, token = line.split()
                found["last"] = token
                for verifier in all_verifiers:
                    verifier.send("token", issued, token)
                if (signer := kid(token)) not in found["signers"]:
                    found["signers"].append(signer)

        passing = threading.Thread(target=pass_on)
        passing.start()
        sizes, accepted, refused, sent = [], 0, 0, 0
        for _ in each_second(asked + seconds):
            sizes.append(len(published(server)))
            if keys.rotate():
                accepted += 1
            else:
                refused += 1
            if "last" in found:
                sent += 1
                for verifier in all_verifiers:
                    verifier.send("junk", "0", junk(found["last"]))
        passing.join()
        figures = {verifier.name: verifier.figures() for verifier in all_verifiers}

    loaded = found["load"]
    print(
        f"{loaded['issued']} tokens, {loaded['per_second']}/s, p99 {loaded['p99_ms']} ms; "
        f"{len(found['signers'])} keys signed; rotation requested {accepted + refused} times: "
        f"{accepted} made, {refused} refused; key set of {min(sizes)} to {max(sizes)} keys"
    )
    for name, figure in figures.items():
        print(
            f"{name}: {figure['verified']} verified, {sum(figure['failed'].values())} failed, "
            f"{figure['keys']} keys; {figure['refused_junk']} junk tokens refused; "
            f"verified within {figure['longest_wait_ms']} ms of the answer"
        )

    wrong = []

    def expect(condition: bool, what: str) -> None:
        if not condition:
            wrong.append(what)

    signers = len(found["signers"])
    if options.unprepared:
        least, most = 1 + options.seconds // 700, MAX_KEYS
    else:
        # The first key, one for each second, and the next one that is made at the end.
        least, most = options.seconds, options.seconds + 2
    expect(not loaded["failed"], f"exchanges failed: {loaded['failed']}")
    expect(signers >= least, f"{signers} keys signed, not {least}")
    expect(max(sizes) <= most, f"the key set has {max(sizes)} keys, more than {most}")
    for name, figure in figures.items():
        expect(not figure["failed"], f"{name} refused tokens: {figure['failed']}")
        expect(figure["verified"] == loaded["issued"], f"{name} did not get every token")
        expect(figure["keys"] == signers, f"{name} saw {figure['keys']} keys of {signers}")
        expect(figure["refused_junk"] == sent, f"{name} did not get every junk token")
    return wrong


def compromise(options: argparse.Namespace, folder: Path) -> list[str]:
    """The drill of a stolen key. Returns what went wrong."""
    wrong = []
    with serving(options.binary, folder) as server:
        keys = Keys(options.binary, server)
        old = exchange(server)
        all_verifiers = verifiers(options.tools, server)
        for verifier in all_verifiers:
            assert verifier.watch(old) == "accepted", verifier.name
        began = time.time()
        done = keys.run("revoke", kid(old), "--reason", "drill", "--yes")
        assert done.returncode == 0, done.stderr
        revoked = time.time()
        print(f"keys revoke took {(revoked - began) * 1000:.0f} ms")
        if kid(old) in published(server):
            wrong.append("the revoked key is published")
        answer = requests.post(
            f"{server.http}/oauth2/introspect",
            data={"token": old},
            auth=(server.client_id, server.client_secret),
            timeout=10,
        )
        if answer.json() != {"active": False}:
            wrong.append(f"the server accepts the old token: {answer.text}")
        else:
            print(f"server: refused {(time.time() - revoked) * 1000:.0f} ms later, at the first look")

        waiting = list(all_verifiers)
        for second in each_second(revoked + options.seconds):
            new = exchange(server)
            for verifier in all_verifiers:
                if (said := verifier.watch(new)) != "accepted":
                    wrong.append(f"{verifier.name} refuses the new key: {said}")
            for verifier in list(waiting):
                if (said := verifier.watch(old)) != "accepted":
                    waiting.remove(verifier)
                    print(f"{verifier.name}: refused {second - revoked:.0f} s later: {said}", flush=True)
            if not waiting:
                break
        for verifier in waiting:
            print(f"{verifier.name}: still accepted {time.time() - revoked:.0f} s later")
        for verifier in all_verifiers:
            verifier.figures()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Drills of signing keys with real verifiers")
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--tools", type=Path, required=True)
    drills = parser.add_mutually_exclusive_group()
    drills.add_argument("--full", action="store_true")
    drills.add_argument("--unprepared", action="store_true")
    drills.add_argument("--compromise", action="store_true")
    parser.add_argument("--rate", type=int, help="tokens a second")
    parser.add_argument("--seconds", type=int, help="how long")
    options = parser.parse_args()
    rate, seconds = 100, 12
    if options.full:
        rate, seconds = 1000, 60
    elif options.unprepared:
        rate, seconds = 20, 25 * 60
    elif options.compromise:
        seconds = COMPROMISE_SECONDS
    options.rate = options.rate or rate
    options.seconds = options.seconds or seconds
    with tempfile.TemporaryDirectory() as folder:
        drill = compromise if options.compromise else rotation
        wrong = drill(options, Path(folder))
    for what in wrong:
        print(f"failed: {what}", file=sys.stderr)
    print("failed" if wrong else "passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
