"""Makes the vectors: `make.py` writes the files, `make.py --check` fails if they would change.

Needs the package `cryptography`, 44 or newer. README.md describes the files.
"""

import argparse
import json
import sys
from pathlib import Path

import bound
import feed
import forged
import good
import revoked
from claims import AUDIENCE, ISSUER, KEYS, NOW, Json

# A newer server may publish keys that a verifier does not know. They are skipped.
UNKNOWN_KEYS = [
    {"kid": "future", "alg": "ML-DSA-65", "use": "sig", "kty": "AKP", "pub": "AA"},
    {"kid": "other-curve", "alg": "ES512", "use": "sig", "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
]


def files() -> dict[str, Json]:
    context = {
        "now": NOW,
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": {"keys": [*UNKNOWN_KEYS, *(key.published() for key in KEYS.values())]},
        "revocations": revoked.revocations(),
    }
    vectors = {
        "good": good.good(),
        "expired": good.expired(),
        "revoked": revoked.vectors(),
        "forged": forged.vectors(),
        "bound": bound.vectors(),
    }
    for name, listed in vectors.items():
        names = [vector["name"] for vector in listed]
        assert len(set(names)) == len(names), f"two vectors of {name} have the same name"
    tokens = {name: {"vectors": listed} for name, listed in vectors.items()}
    return {"context": context, "feed": {"stories": feed.stories()}} | tokens


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the test vectors of offline verifiers")
    parser.add_argument("--check", action="store_true", help="compare with the files, and write nothing")
    options = parser.parse_args()
    differ = []
    for name, content in files().items():
        file = Path(__file__).with_name(f"{name}.json")
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        if not options.check:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            differ.append(file.name)
        for kind in ("vectors", "stories"):
            if kind in content:
                print(f"{file.name}: {len(content[kind])} {kind}")
    if differ:
        print(f"out of date: {', '.join(differ)}", file=sys.stderr)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
