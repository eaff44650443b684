// A client in TypeScript from its first call to its last, by grpc-js and by Connect: a console acts for a user, an
// integration gets tokens, a service checks them. The same story is written in Go, Java and Python.
import assert from "node:assert/strict";
import { test } from "node:test";
import { exportSPKI, generateKeyPair } from "jose";
import * as client from "openid-client";
import { AccessService, CheckAccessResponse_Outcome } from "../gen/typescript/keyward/access/v1/access_pb.js";
import { RevocationService } from "../gen/typescript/keyward/access/v1/revocation_pb.js";
import { ApplicationService } from "../gen/typescript/keyward/admin/v1/application_pb.js";
import { Credential_Kind, CredentialService } from "../gen/typescript/keyward/admin/v1/credential_pb.js";
import { TokenService } from "../gen/typescript/keyward/token/v1/token_pb.js";
import { plain as server, type Secret } from "../shared/fixture.js";
import { connect } from "./connect.js";
import { grpcJs } from "./grpc_js.js";
import type { Headers, Keyward } from "./keyward.js";

const INVALID_ARGUMENT = 3;

for (const [name, library] of Object.entries({ "grpc-js": grpcJs, Connect: connect })) {
  test(`the story by ${name}`, async () => {
    const keyward = library(server.grpc);
    try {
      await tell(keyward, name);
    } finally {
      keyward.close();
    }
  });
}

async function tell(keyward: Keyward, name: string): Promise<void> {
  // The console acts for a user, who creates an application with a limit, a secret and a key.
  const console = { ...(await authorized(keyward, server.console)), "keyward-user": server.user };
  const application = await createApplication(keyward, console, `Story by ${name}`);
  const { createCredential } = CredentialService.method;
  const bySecret = { parent: application, credential: { kind: Credential_Kind.CLIENT_SECRET } };
  const made = await keyward.call(createCredential, bySecret, console);
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const pem = await exportSPKI(publicKey);
  const registration = { case: "publicKey", value: { keys: { case: "pem", value: pem } } } as const;
  const byKey = { parent: application, credential: { kind: Credential_Kind.PUBLIC_KEY, registration } };
  const withKey = await keyward.call(createCredential, byKey, console);

  // The integration knows the issuer. It gets a token with the secret, and another one with the key.
  const one = await fetchToken(made.credential!.clientId, client.ClientSecretBasic(made.secret));
  const two = await fetchToken(withKey.credential!.clientId, client.PrivateKeyJwt(privateKey));

  // A service asks about each request, until the limit of the application is reached.
  const service = await authorized(keyward, server.verifier);
  const wait = await checkUntilLimited(keyward, service, application, [one, two, one, two]);
  // The window is a minute, which may pass in steps.
  assert.ok(wait > 30 && wait < 90, `wait ${wait} s`);

  await readErrors(keyward, console);
  await followRevocation(keyward, service, one);
}

/** The headers with a token of a client for Keyward itself. */
async function authorized(keyward: Keyward, { client_id, client_secret }: Secret): Promise<Headers> {
  const value = { clientId: client_id, clientSecret: client_secret };
  const request = { credential: { case: "clientSecret", value } as const, audiences: ["keyward"] };
  const { accessToken } = await keyward.call(TokenService.method.issueToken, request);
  return { authorization: `Bearer ${accessToken}` };
}

async function createApplication(keyward: Keyward, console: Headers, displayName: string): Promise<string> {
  const wanted = { displayName, scopes: ["calls.read"], limits: { requests: 3n } };
  const request = { parent: server.tenant, application: wanted };
  const { application } = await keyward.call(ApplicationService.method.createApplication, request, console);
  assert.equal(application!.owner, server.user);
  return application!.name;
}

async function fetchToken(clientId: string, authentication: client.ClientAuth): Promise<string> {
  const execute = [client.allowInsecureRequests];
  const issuer = new URL(server.issuer);
  const config = await client.discovery(issuer, clientId, undefined, authentication, { execute });
  return (await client.clientCredentialsGrant(config)).access_token;
}

/** Returns how many seconds to wait before the next request. */
async function checkUntilLimited(
  keyward: Keyward,
  service: Headers,
  application: string,
  tokens: string[],
): Promise<number> {
  const requirement = { case: "scopes" as const, value: { allOf: ["calls.read"] } };
  for (const [number, token] of tokens.entries()) {
    const answer = await keyward.call(AccessService.method.checkAccess, { token, requirement }, service);
    assert.equal(answer.principal!.application, application);
    assert.equal(answer.allowed, number < 3, answer.message);
    if (answer.outcome === CheckAccessResponse_Outcome.RATE_LIMITED) return Number(answer.retryAfter!.seconds);
  }
  assert.fail("there was no limit");
}

/** The reason of an error, and the wrong fields. */
async function readErrors(keyward: Keyward, console: Headers): Promise<void> {
  const wrong = { scopes: ["no scope"], contactEmail: "no address" };
  const request = { parent: server.tenant, application: wrong };
  const refused = await keyward.call(ApplicationService.method.createApplication, request, console).then(
    () => assert.fail("the application was created"),
    (error: unknown) => keyward.explain(error),
  );
  assert.equal(refused.code, INVALID_ARGUMENT);
  assert.equal(refused.reason, "INVALID_FIELD");
  for (const field of ["application.display_name", "application.contact_email"]) {
    assert.ok(refused.fields.includes(field), `${field} is not in ${refused.fields}`);
  }
}

/** Revokes a token, and waits until the feed has it. */
async function followRevocation(keyward: Keyward, service: Headers, token: string): Promise<void> {
  const known = await keyward.call(TokenService.method.introspectToken, { token }, service);
  assert.equal(known.active, true);
  const admin = await authorized(keyward, server.admin);
  assert.equal((await keyward.call(TokenService.method.revokeToken, { token }, admin)).revoked, true);
  for await (const { revocations } of keyward.watch(RevocationService.method.watchRevocations, {}, service)) {
    if (revocations.some(({ revoked }) => revoked.case === "tokenId" && revoked.value === known.tokenId)) return;
  }
  assert.fail("the feed ended");
}
