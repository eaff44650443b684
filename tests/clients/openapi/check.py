"""Starts a server with a tenant and clients of each kind, and runs schemathesis with its own description
of the interface, which it serves at `/oauth2/openapi.json`."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from harness import Server, serving

# How many cases schemathesis generates for each endpoint that takes parameters. There are more that do not
# depend on it: the examples, each boundary of each schema, and sequences of requests.
EXAMPLES = 60
EXAMPLES_OF_A_FULL_RUN = 1_800


@dataclass(frozen=True)
class Run:
    """A server with settings, and how it is checked."""

    name: str
    settings: dict[str, str]
    arguments: list[str]


RUNS = [
    # Wrong secrets are sent all the time: their limit would answer in place of the endpoints.
    Run(
        "without limits",
        {
            "KEYWARD_SECRETS_WRONG_SECRETS": "0",
            "KEYWARD_SECRETS_WRONG_SECRETS_OF_SOURCE": "0",
        },
        [],
    ),
    # The answers of a reached limit, and of a server that demands nonces. Most requests of a long run
    # would only meet the limit, so that a full run does not make it longer.
    Run(
        "with limits and nonces",
        {
            "KEYWARD_SECRETS_WRONG_SECRETS": "1",
            "KEYWARD_DPOP_NONCE": "required",
        },
        ["--phases=coverage,fuzzing", f"--max-examples={EXAMPLES}"],
    ),
]

# Tokens live for the whole run.
PROFILE = """
tenant = "acme"
display_name = "Acme"
access_token_lifetime = "1h"

[[scopes]]
name = "calls.read"

[[scopes]]
name = "calls.write"
"""


class Scene:
    """`keyward` as the administrator of the server."""

    def __init__(self, binary: Path, server: Server) -> None:
        self.binary = binary
        ours = {k: v for k, v in os.environ.items() if not k.startswith("KEYWARD_")}
        self.environment = ours | {
            "KEYWARD_SERVER": f"http://{server.grpc}",
            "KEYWARD_CLIENT_ID": server.client_id,
            "KEYWARD_CLIENT_SECRET": server.client_secret,
        }

    def run(self, *arguments: str | Path) -> Any:
        done = subprocess.run(
            [self.binary, *arguments, "--output", "json"],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"keyward {' '.join(map(str, arguments))}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def application(self, name: str, *arguments: str) -> None:
        scopes = ["--scope", "calls.read", "--scope", "calls.write"]
        self.run(
            "application", "create", name, "--display-name", name, *scopes, *arguments
        )

    def credential(self, application: str, *arguments: str | Path) -> dict[str, str]:
        made = self.run("credential", "create", application, *arguments)
        credential = made.get("credential", made)
        return {"id": credential["client_id"], "secret": made.get("secret", "")}


def prepare(scene: Scene, work: Path) -> dict[str, Any]:
    """The clients that requests are made with."""
    profile = work / "profile.toml"
    profile.write_text(PROFILE)
    scene.run("apply", profile)
    scene.application("acme/crm")
    # The answers to this one have its limit in their headers, and the limit is reached.
    scene.application("acme/limited", "--limit-tokens", "3")
    scene.application("acme/gateway", "--exchange-audience", "tenants/acme")
    key = ec.generate_private_key(ec.SECP256R1())
    public = work / "public.pem"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "crm": scene.credential("acme/crm"),
        "limited": scene.credential("acme/limited"),
        "gateway": scene.credential("acme/gateway"),
        "api_key": scene.credential("acme/crm", "--kind", "api-key"),
        "signer": scene.credential("acme/crm", "--kind", "public-key", "--pem", public),
        "private_key": private.decode(),
    }


def check(run: Run, binary: Path, work: Path, examples: int) -> int:
    print(f"\n--- a server {run.name}", flush=True)
    work.mkdir()
    with serving(binary, work, run.settings) as server:
        scene = prepare(Scene(binary, server), work)
        scene |= {"issuer": server.issuer, "http": server.http}
        return subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "--config-file",
                Path(__file__).with_name("schemathesis.toml"),
                "run",
                f"{server.http}/oauth2/openapi.json",
                f"--max-examples={examples}",
                *run.arguments,
            ],
            check=False,
            env=os.environ
            | {
                "SCHEMATHESIS_HOOKS": "hooks",
                "KEYWARD_TEST_SCENE": json.dumps(scene),
            },
        ).returncode


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    examples = EXAMPLES_OF_A_FULL_RUN if arguments.full else EXAMPLES
    codes = [
        check(run, arguments.binary, arguments.work / str(number), examples)
        for number, run in enumerate(RUNS)
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
