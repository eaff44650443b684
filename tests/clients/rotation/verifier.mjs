// jose's cached key set with its default settings. See drill.py for what it reads and writes.
import { createInterface } from "node:readline";
import { createRemoteJWKSet, jwtVerify } from "jose";

const [jwks, issuer, audience] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(jwks));
const figures = { verified: 0, keys: 0, refused_junk: 0, longest_wait_ms: 0, failed: {} };
const kids = new Set();

/** The id of the key that verified it, or why it was refused. */
async function verify(token) {
  try {
    const { protectedHeader } = await jwtVerify(token, keys, { issuer, audience });
    return { kid: protectedHeader.kid };
  } catch (error) {
    return { cause: error.code ?? error.message };
  }
}

const fail = (cause) => (figures.failed[cause] = (figures.failed[cause] ?? 0) + 1);

for await (const line of createInterface({ input: process.stdin })) {
  const [kind, issued, token] = line.split(" ");
  const { kid, cause } = await verify(token);
  if (kind === "watch") {
    console.log(cause ?? "accepted");
  } else if (kind === "junk") {
    cause ? figures.refused_junk++ : fail("junk was accepted");
  } else if (cause) {
    fail(cause);
  } else {
    figures.verified++;
    kids.add(kid);
    figures.longest_wait_ms = Math.max(figures.longest_wait_ms, Date.now() - Number(issued));
  }
}
figures.keys = kids.size;
console.log(JSON.stringify(figures));
