// The offline verifier with the vectors of tests/vectors.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { take, type RevocationsMessage } from "./follower.js";
import { Refused, Verifier, type DpopProof } from "./index.js";
import { Feed, FeedError, type Kind } from "./revocations.js";

interface Vector {
  name: string;
  token: string;
  certificate?: string;
  dpop?: DpopProof;
  valid: boolean;
  claims: Record<string, unknown>;
  reasons: string[];
}

type Entry = { number: number; epoch: number; expire_time?: number } & { [kind in Kind]?: string };

interface Step {
  step: "begin" | "lose" | "message" | "refused_message" | "expect";
  message: { revocations: Entry[]; cursor: string; snapshot: boolean; staleness?: number };
  sent: number;
  now: number;
  revoked: string[];
  not_revoked: string[];
  cursor: string;
  complete_as_of: number | null;
}

const folder = process.env["KEYWARD_VECTORS"]!;
const load = (name: string) => JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"));
const context = load("context");
const KINDS: Kind[] = ["token_id", "client_id", "subject", "tenant", "key_id"];

/** A message as proto-loader reads it, whose times are numbers in the files. */
function message({ revocations, cursor, snapshot, staleness }: Step["message"]): RevocationsMessage {
  return {
    revocations: revocations.map(({ expire_time, ...entry }) => ({
      ...entry,
      revoked: KINDS.find((kind) => kind in entry)!,
      expire_time: expire_time === undefined ? null : { seconds: expire_time },
    })),
    cursor,
    snapshot,
    staleness: staleness === undefined ? null : { seconds: staleness },
  };
}

const { issuer, audience } = context;
const verifier = new Verifier({ issuer, audience, clock: () => context.now, monotonic: () => 0 });
verifier.takeKeys(JSON.stringify(context.jwks));
const list = { cursor: "c", staleness: 0 };
take(verifier.feed, message({ ...list, revocations: context.revocations, snapshot: true }), 0);
take(verifier.feed, message({ ...list, revocations: [], snapshot: false }), 0);

function check({ token, certificate, dpop, valid, claims, reasons }: Vector): void {
  const der = certificate === undefined ? undefined : Buffer.from(certificate, "base64");
  let found;
  try {
    found = verifier.verify(token, { certificate: der, dpop });
  } catch (error) {
    assert.ok(error instanceof Refused, String(error));
    assert.ok(!valid, error.message);
    assert.ok(reasons.includes(error.reason), `${error.reason}, and not ${reasons}`);
    return;
  }
  assert.ok(valid, `accepted, and not refused with ${reasons}`);
  const { tenant, application, clientId, tokenId, expiresAt, scopes, roles } = found;
  const named = { client_id: clientId, token_id: tokenId, expires_at: expiresAt };
  assert.deepEqual({ tenant, application, ...named, scopes, roles }, claims);
}

for (const name of ["good", "expired", "revoked", "forged", "bound"]) {
  const { vectors } = load(name) as { vectors: Vector[] };
  test(`${vectors.length} vectors of ${name}.json`, async (t) => {
    assert.ok(vectors.length > 0);
    for (const vector of vectors) await t.test(vector.name, () => check(vector));
  });
}

test("stories of the feed", async (t) => {
  for (const { name, steps } of load("feed").stories as { name: string; steps: Step[] }[]) {
    await t.test(name, () => {
      const feed = new Feed();
      for (const step of steps) play(feed, step);
    });
  }
});

function play(feed: Feed, step: Step): void {
  switch (step.step) {
    case "begin":
      return feed.begin();
    case "lose":
      return feed.lose();
    case "message":
      take(feed, message(step.message), step.sent);
      return feed.revocations.forget(step.now);
    case "refused_message":
      return assert.throws(() => take(feed, message(step.message), step.sent), FeedError);
    case "expect": {
      const tenants = [...step.revoked, ...step.not_revoked];
      const revoked = tenants.filter((tenant) => feed.revocations.isBelow("tenant", tenant, 0));
      assert.deepEqual(revoked, step.revoked);
      assert.equal(feed.cursor, step.cursor);
      assert.equal(feed.confirmed ?? null, step.complete_as_of);
    }
  }
}
