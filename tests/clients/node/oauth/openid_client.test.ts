// openid-client gets its whole configuration from the issuer.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";
import * as client from "openid-client";
import { plain, privateKey, strict, type Prepared } from "../shared/fixture.js";

const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const API_KEY = "urn:keyward:params:oauth:token-type:api_key";
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";

function discover(
  server: Prepared,
  clientId: string,
  authentication: client.ClientAuth,
  algorithm: "oidc" | "oauth2" = "oidc",
): Promise<client.Configuration> {
  // The server `plain` is on loopback, without TLS.
  const execute = server === plain ? [client.allowInsecureRequests] : [];
  const issuer = new URL(server.issuer);
  return client.discovery(issuer, clientId, undefined, authentication, { algorithm, execute });
}

function withSecret(server: Prepared, { client_id, client_secret } = server.secret) {
  return discover(server, client_id, client.ClientSecretBasic(client_secret));
}

async function withKey(server: Prepared, algorithm: string) {
  const { client_id, private_key } =
    server.keys[algorithm.endsWith("S256") && algorithm !== "ES256" ? "RSA" : (algorithm as "ES256")];
  return discover(server, client_id, client.PrivateKeyJwt(await privateKey(private_key, algorithm)));
}

/** A 401 has a challenge, for which openid-client has an error of its own, with the answer. */
async function refusesClient(config: client.Configuration): Promise<void> {
  const refused = await client.clientCredentialsGrant(config).catch((error: unknown) => error);
  assert.ok(refused instanceof client.WWWAuthenticateChallengeError, String(refused));
  assert.equal(refused.status, 401);
  assert.equal(((await refused.response.json()) as { error: string }).error, "invalid_client");
}

for (const [name, method] of Object.entries({
  client_secret_basic: client.ClientSecretBasic,
  client_secret_post: client.ClientSecretPost,
})) {
  for (const algorithm of ["oidc", "oauth2"] as const) {
    test(`${name} gets a token, discovered as ${algorithm}`, async () => {
      const { client_id, client_secret } = plain.secret;
      const config = await discover(plain, client_id, method(client_secret), algorithm);
      const supported = config.serverMetadata().token_endpoint_auth_methods_supported ?? [];
      assert.ok(supported.includes(name), `the metadata lists ${name}`);
      const token = await client.clientCredentialsGrant(config, { scope: "calls.read" });
      assert.equal(token.token_type, "bearer");
      assert.equal(token.scope, "calls.read");
      assert.equal(token.expires_in, 900);
    });
  }
}

for (const algorithm of ["ES256", "ES384", "EdDSA", "PS256", "RS256"]) {
  test(`private_key_jwt by ${algorithm} gets a token, introspects and revokes it`, async () => {
    const config = await withKey(plain, algorithm);
    const metadata = config.serverMetadata();
    const listed = metadata.token_endpoint_auth_signing_alg_values_supported ?? [];
    assert.ok(listed.includes(algorithm), `the metadata lists ${algorithm}`);
    const { access_token } = await client.clientCredentialsGrant(config);
    const known = await client.tokenIntrospection(config, access_token);
    assert.equal(known.active, true);
    assert.equal(known.client_id, config.clientMetadata().client_id);
    await client.tokenRevocation(config, access_token);
    assert.deepEqual(await client.tokenIntrospection(config, access_token), { active: false });
  });
}

test("private_key_jwt with the key of another client is invalid_client", async () => {
  const { client_id } = plain.keys.ES384;
  const key = await privateKey(plain.keys.ES256.private_key, "ES256");
  const config = await discover(plain, client_id, client.PrivateKeyJwt(key));
  await refusesClient(config);
});

test("token is verified with the discovered keys", async () => {
  const config = await withSecret(plain);
  const { issuer, jwks_uri } = config.serverMetadata();
  const { access_token } = await client.clientCredentialsGrant(config);
  const keys = createRemoteJWKSet(new URL(jwks_uri!));
  const expected = { issuer, audience: plain.tenant, typ: "at+jwt" };
  const { payload } = await jwtVerify(access_token, keys, expected);
  assert.equal(payload.sub, plain.application);
});

for (const [name, server] of Object.entries({ "without a nonce": plain, "with a nonce": strict })) {
  for (const method of ["secret", "ES256"]) {
    test(`DPoP ${name}, authenticated by ${method}, binds the token`, async () => {
      const config = await (method === "secret" ? withSecret(server) : withKey(server, method));
      assert.ok(config.serverMetadata().dpop_signing_alg_values_supported?.includes("ES256"));
      const pair = await client.randomDPoPKeyPair("ES256");
      const DPoP = client.getDPoPHandle(config, pair);
      const wanted = { audience: "keyward" };
      const token = await client.clientCredentialsGrant(config, wanted, { DPoP });
      assert.equal(token.token_type, "dpop");
      const bound = decodeJwt(token.access_token)["cnf"] as { jkt: string };
      assert.equal(bound.jkt, await DPoP.calculateThumbprint());

      // A call that the token authenticates, with a proof for this call: introspection of itself.
      const url = new URL(config.serverMetadata().introspection_endpoint!);
      const headers = new Headers({ "content-type": "application/x-www-form-urlencoded" });
      const body = new URLSearchParams({ token: token.access_token }).toString();
      const call = (options: client.DPoPOptions) =>
        client.fetchProtectedResource(config, token.access_token, url, "POST", body, headers, options);
      const answer = (await (await call({ DPoP })).json()) as client.IntrospectionResponse;
      assert.equal(answer.active, true);
      assert.equal(answer.token_type, "DPoP");

      // Without its proof, and with the proof of another key, the token is refused.
      await assert.rejects(call({}), { status: 401 });
      const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
      await assert.rejects(call({ DPoP: other }), { status: 401 });
    });
  }
}

test("token and API key are exchanged for a narrower token", async () => {
  const subject = await client.clientCredentialsGrant(await withSecret(plain));
  const gateway = await withSecret(plain, plain.gateway);
  for (const [subject_token, subject_token_type] of [
    [subject.access_token, ACCESS_TOKEN],
    [plain.api_key, API_KEY],
  ] as const) {
    const { audience } = plain.gateway;
    const wanted = { subject_token, subject_token_type, audience, scope: "calls.read" };
    const token = await client.genericGrantRequest(gateway, EXCHANGE, wanted);
    const claims = decodeJwt(token.access_token);
    assert.equal(token["issued_token_type"], ACCESS_TOKEN);
    assert.equal(claims.aud, audience);
    assert.equal(claims["scope"], "calls.read");
    assert.equal(claims.sub, plain.application);
  }
});

test("errors have the codes of RFC 6749", async () => {
  const config = await withSecret(plain);
  const unknown = client.clientCredentialsGrant(config, { scope: "calls.delete" });
  await assert.rejects(unknown, { error: "invalid_scope" });
  // The well-formed secret of another client, so that it is really compared.
  const { client_id } = plain.secret;
  const { client_secret } = plain.gateway;
  const wrong = await withSecret(plain, { client_id, client_secret });
  await refusesClient(wrong);
});
