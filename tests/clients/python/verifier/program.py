"""Runs the verifier for tests/clients/shared/verifier_drill.py, which describes its lines."""

import logging
import os
import sys
import time

from . import Refused, Verifier


def answer(verifier: Verifier, question: str) -> str:
    match question.split():
        case ["ready"]:
            return "ready"
        case ["verify", token]:
            try:
                verifier.verify(token)
            except Refused as refused:
                return refused.reason
            return "accepted"
        case ["measure", count, token]:
            began = time.perf_counter()
            for _ in range(int(count)):
                verifier.verify(token)
            return f"{(time.perf_counter() - began) * 1e6 / int(count):.0f}"
    raise ValueError(question)


def main() -> None:
    logging.basicConfig()
    setting = {name: os.environ[f"KEYWARD_{name}"] for name in (
        "TARGET", "ISSUER", "AUDIENCE", "CLIENT_ID", "CLIENT_SECRET")}
    verifier = Verifier(setting["ISSUER"], setting["AUDIENCE"])
    verifier.follow(setting["TARGET"], setting["CLIENT_ID"], setting["CLIENT_SECRET"])
    for line in sys.stdin:
        print(answer(verifier, line), flush=True)
    verifier.close()


if __name__ == "__main__":
    main()
