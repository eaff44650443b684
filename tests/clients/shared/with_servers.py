"""Runs a command while real servers run: with_servers.py --binary BINARY -- COMMAND…

The command finds all that it needs in the JSON file that the environment names as KEYWARD_FIXTURE:

    plain    a server without TLS
    strict   a server with TLS that asks for client certificates, and requires nonces in DPoP proofs

Each has the same tenant with the same applications: see `Clients`. Only Python's standard library and the
`openssl` program are needed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from harness import SCOPES, Server, serving  # noqa: E402

TENANT = "acme"
# Who may exchange tokens of others does so for this audience.
EXCHANGE_AUDIENCE = "https://billing.example"
KEYS = {
    "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ES384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "EdDSA": ["-algorithm", "ED25519"],
    "RSA": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
}

Answer = dict[str, Any]


def openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr}")


class Files:
    """Keys and certificates, as files in PEM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, options in KEYS.items():
            openssl("genpkey", *options, "-out", self.private(name))
            openssl("pkey", "-in", self.private(name), "-pubout", "-out", self.public(name))
        self.certify("ca", "/CN=Test authority", "keyUsage=critical,keyCertSign")
        self.certify("server", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:localhost", "ca")
        self.certify("client", "/O=Acme/CN=crm", "extendedKeyUsage=clientAuth", "ca")

    def private(self, name: str) -> Path:
        return self.folder / f"{name}.key.pem"

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.pub.pem"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt.pem"

    def certify(self, name: str, subject: str, extension: str, issuer: str = "") -> None:
        """Makes a key with a certificate, by an authority or self-signed."""
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        out = ["-keyout", self.private(name), "-out", self.certificate(name)]
        by = ["-CA", self.certificate(issuer), "-CAkey", self.private(issuer)] if issuer else []
        authority = f"basicConstraints=critical,CA:{'FALSE' if issuer else 'TRUE'}"
        extensions = ["-addext", authority, "-addext", extension]
        openssl("req", "-x509", *key, *out, *by, "-subj", subject, "-days", "1", *extensions)


class Desk:
    """An administrator at the command line."""

    def __init__(self, binary: Path, server: Server, ca: Path | None) -> None:
        self.binary = binary
        theirs = {k: v for k, v in os.environ.items() if not k.startswith("KEYWARD_")}
        scheme = "https" if ca else "http"
        self.environment = theirs | {
            "KEYWARD_SERVER": f"{scheme}://{server.grpc}",
            "KEYWARD_CLIENT_ID": server.client_id,
            "KEYWARD_CLIENT_SECRET": server.client_secret,
        }
        if ca:
            self.environment["KEYWARD_CA"] = str(ca)

    def run(self, *arguments: str | Path) -> Answer:
        done = subprocess.run(
            [self.binary, *arguments, "--output", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"keyward {arguments[0]} {arguments[1]}: {done.stderr}")
        return json.loads(done.stdout or "{}")


class Clients:
    """The tenant, and its applications: one with a credential of each kind, and one that exchanges."""

    def __init__(self, desk: Desk, files: Files) -> None:
        self.desk = desk
        self.files = files

    def make(self) -> Answer:
        scopes = [option for scope in SCOPES for option in ("--scope", scope)]
        audience = ["--additional-audience", EXCHANGE_AUDIENCE]
        self.desk.run("tenant", "create", TENANT, "--display-name", "Acme", *audience)
        for scope in SCOPES:
            self.desk.run("scope", "create", f"{TENANT}/{scope}", "--display-name", scope)
        self.desk.run("application", "create", f"{TENANT}/crm", "--display-name", "CRM", *scopes)
        exchange = ["--exchange-audience", EXCHANGE_AUDIENCE]
        gateway = f"{TENANT}/gateway"
        self.desk.run("application", "create", gateway, "--display-name", "Gateway", *exchange)
        role = ["--permission", "applications.create.own", "--permission", "applications.view.own"]
        self.desk.run("role", "create", f"{TENANT}/member", "--display-name", "Member", *scopes, *role)
        self.desk.run("user", "create", f"{TENANT}/sam", "--display-name", "Sam", "--role", "member")
        manage = ["--display-name", "Console", "--scope", "keyward.manage"]
        self.desk.run("application", "create", "system/console", *manage)
        verify = ["--scope", "keyward.verify"]
        verifier = "system/verifier"
        self.desk.run("application", "create", verifier, "--display-name", "Verifier", *verify)
        return {
            "tenant": f"tenants/{TENANT}",
            "scopes": SCOPES,
            "application": f"tenants/{TENANT}/applications/crm",
            "secret": self.secret(f"{TENANT}/crm"),
            "api_key": self.credential(f"{TENANT}/crm", "api-key")["secret"],
            "keys": {name: self.key(name) for name in KEYS},
            "certificate": self.certificate(),
            "gateway": self.secret(gateway) | {"audience": EXCHANGE_AUDIENCE},
            "verifier": self.secret(verifier),
            "console": self.secret("system/console"),
            "user": f"tenants/{TENANT}/users/sam",
        }

    def credential(self, application: str, kind: str, *options: str | Path) -> Answer:
        return self.desk.run("credential", "create", application, "--kind", kind, *options)

    def secret(self, application: str) -> Answer:
        made = self.credential(application, "client-secret")
        return {"client_id": made["client_id"], "client_secret": made["secret"]}

    def key(self, name: str) -> Answer:
        pem = self.files.public(name)
        made = self.credential(f"{TENANT}/crm", "public-key", "--pem", pem)
        return {"client_id": made["client_id"], "private_key": str(self.files.private(name))}

    def certificate(self) -> Answer:
        authority = ["--ca-file", self.files.certificate("ca"), "--subject", "CN=crm,O=Acme"]
        made = self.credential(f"{TENANT}/crm", "certificate", *authority)
        return {
            "client_id": made["client_id"],
            "certificate": str(self.files.certificate("client")),
            "private_key": str(self.files.private("client")),
        }


def described(binary: Path, server: Server, files: Files, ca: Path | None) -> Answer:
    made = Clients(Desk(binary, server, ca), files).make()
    admin = {"client_id": server.client_id, "client_secret": server.client_secret}
    return made | {"issuer": server.issuer, "grpc": server.grpc, "admin": admin}


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs a command while real servers run")
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        files = Files(folder / "files")
        tls = {"CERTIFICATE": files.certificate("server"), "KEY": files.private("server")}
        tls["CLIENT_AUTH"] = "any"
        strict = {
            f"KEYWARD_{listener}_TLS_{setting}": str(value)
            for listener in ("GRPC", "HTTP")
            for setting, value in tls.items()
        }
        strict["KEYWARD_DPOP_NONCE"] = "required"
        fixture: Answer = {
            "ca": str(files.certificate("ca")),
            "server_certificate": str(files.certificate("server")),
            "server_key": str(files.private("server")),
        }
        for name, settings, ca in [("plain", {}, None), ("strict", strict, files.certificate("ca"))]:
            (folder / name).mkdir()
            server = servers.enter_context(serving(options.binary, folder / name, settings))
            fixture[name] = described(options.binary, server, files, ca)
        path = folder / "fixture.json"
        path.write_text(json.dumps(fixture, indent=2))
        # A proxy for the package indexes must not be used for the servers.
        local = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
        # Node.js and Go trust the authority of the servers by these.
        trust = {"NODE_EXTRA_CA_CERTS": fixture["ca"], "SSL_CERT_FILE": fixture["ca"]}
        environment = os.environ | local | trust | {"KEYWARD_FIXTURE": str(path)}
        return subprocess.run(options.command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
