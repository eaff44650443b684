// What tests/clients/shared/with_servers.py has prepared.
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";

export interface Secret {
  client_id: string;
  client_secret: string;
}

/** A server with a tenant, and clients of each kind. */
export interface Prepared {
  issuer: string;
  grpc: string;
  tenant: string;
  scopes: string[];
  application: string;
  admin: Secret;
  secret: Secret;
  api_key: string;
  keys: Record<"ES256" | "ES384" | "EdDSA" | "RSA", { client_id: string; private_key: string }>;
  gateway: Secret & { audience: string };
  verifier: Secret;
  console: Secret;
  user: string;
}

const path = process.env["KEYWARD_FIXTURE"];
if (!path) throw new Error("KEYWARD_FIXTURE is unset: start the tests with `run`");

/** `plain` has no TLS; `strict` has TLS, and requires nonces in DPoP proofs. */
export const { plain, strict }: { plain: Prepared; strict: Prepared } = JSON.parse(
  readFileSync(path, "utf8"),
);

/** A private key for WebCrypto. */
export async function privateKey(file: string, algorithm: string): Promise<CryptoKey> {
  const parameters: Record<string, object> = {
    ES256: { name: "ECDSA", namedCurve: "P-256" },
    ES384: { name: "ECDSA", namedCurve: "P-384" },
    EdDSA: { name: "Ed25519" },
    PS256: { name: "RSA-PSS", hash: "SHA-256" },
    RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  };
  const der = createPrivateKey(readFileSync(file)).export({ type: "pkcs8", format: "der" });
  const chosen = parameters[algorithm] as EcKeyImportParams;
  return crypto.subtle.importKey("pkcs8", new Uint8Array(der), chosen, false, ["sign"]);
}
