"""PyJWT's cached key set with its default settings. See drill.py for what it reads and writes."""

import json
import sys
import time
from collections import Counter

import jwt

jwks, issuer, audience = sys.argv[1:]
client = jwt.PyJWKClient(jwks)
failed: Counter[str] = Counter()
verified = refused_junk = longest_wait = 0
kids = set()


def verify(token: str) -> str | None:
    """Why the token is refused."""
    try:
        key = client.get_signing_key_from_jwt(token)
        jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=audience,
        )
        kids.add(key.key_id)
    except jwt.PyJWTError as error:
        return type(error).__name__
    return None


for line in sys.stdin:
    kind, issued, token = line.split()
    cause = verify(token)
    if kind == "watch":
        print(cause or "accepted", flush=True)
    elif kind == "junk":
        if cause:
            refused_junk += 1
        else:
            failed["junk was accepted"] += 1
    elif cause:
        failed[cause] += 1
    else:
        verified += 1
        longest_wait = max(longest_wait, int(time.time() * 1000) - int(issued))

figures = {
    "verified": verified,
    "keys": len(kids),
    "refused_junk": refused_junk,
    "longest_wait_ms": longest_wait,
    "failed": failed,
}
print(json.dumps(figures))
