// oauth4webapi leaves each step to its user; a second reading of the same answers, without retries.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as oauth from "oauth4webapi";
import { plain, strict, type Prepared } from "../shared/fixture.js";

const insecure = { [oauth.allowInsecureRequests]: true };

async function discovered(server: Prepared): Promise<oauth.AuthorizationServer> {
  const issuer = new URL(server.issuer);
  const answer = await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure });
  return oauth.processDiscoveryResponse(issuer, answer);
}

async function grant(
  server: Prepared,
  as: oauth.AuthorizationServer,
  DPoP: oauth.DPoPHandle,
): Promise<oauth.TokenEndpointResponse> {
  const { client_id, client_secret } = server.secret;
  const client = { client_id };
  const secret = oauth.ClientSecretBasic(client_secret);
  const wanted = new URLSearchParams({ scope: "calls.read" });
  const answer = await oauth.clientCredentialsGrantRequest(as, client, secret, wanted, {
    DPoP,
    ...insecure,
  });
  return oauth.processClientCredentialsResponse(as, client, answer);
}

test("DPoP proof without a nonce is enough where none is required", async () => {
  const as = await discovered(plain);
  const DPoP = oauth.DPoP({}, await oauth.generateKeyPair("ES256"));
  assert.equal((await grant(plain, as, DPoP)).token_type, "dpop");
});

test("required nonce is asked for once, and the next one comes with the answer", async () => {
  const as = await discovered(strict);
  const DPoP = oauth.DPoP({}, await oauth.generateKeyPair("ES256"));
  await assert.rejects(grant(strict, as, DPoP), (error) => oauth.isDPoPNonceError(error));
  for (let use = 0; use < 2; use++) {
    assert.equal((await grant(strict, as, DPoP)).token_type, "dpop");
  }
});
