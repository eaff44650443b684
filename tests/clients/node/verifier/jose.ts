// Signatures and keys: the part of RFC 7515 and 7517 that tokens and proofs need.
import { constants, createHash, createPublicKey, verify, type VerifyKeyObjectInput } from "node:crypto";

export type Json = Record<string, unknown>;

/** The input does not have the required form. */
export class Malformed extends Error {}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/** base64url without padding. Each value has one form only. */
export function decode(text: string): Buffer {
  const data = Buffer.from(text, "base64url");
  if (data.toString("base64url") !== text) throw new Malformed("not base64url");
  return data;
}

export function parseObject(data: Uint8Array): Json {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(data));
  } catch {
    throw new Malformed("not JSON");
  }
  return object(value);
}

export function object(value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Malformed("not a JSON object");
  }
  return value as Json;
}

export function text(value: unknown): string {
  if (typeof value !== "string") throw new Malformed("not a text");
  return value;
}

/** The SHA-256 hash in base64url. */
export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("base64url");
}

/** A key for one algorithm. */
export interface PublicKey {
  algorithm: string;
  thumbprint: string;
  verifies(message: string, signature: Uint8Array): boolean;
}

/** RFC 9864 has a new name for Ed25519. */
export function normal(algorithm: unknown): unknown {
  return algorithm === "Ed25519" ? "EdDSA" : algorithm;
}

/** A key for this algorithm. An error: the key is invalid, or for something else. */
export function publicKey(jwk: Json, algorithm: string): PublicKey {
  if (PRIVATE_MEMBERS.some((name) => name in jwk)) throw new Malformed("the key has private members");
  if ((jwk["use"] ?? "sig") !== "sig" || normal(jwk["alg"] ?? algorithm) !== algorithm) {
    throw new Malformed("the key is for something else");
  }
  const { members, hash, input } = parameters(jwk, algorithm);
  // The members of the thumbprint (RFC 7638) are in lexical order.
  const thumbprint = sha256(JSON.stringify(members));
  let key: VerifyKeyObjectInput;
  try {
    key = { key: createPublicKey({ key: members, format: "jwk" }), ...input };
  } catch {
    throw new Malformed("the key is invalid");
  }
  const bits = key.key.asymmetricKeyDetails?.modulusLength;
  if (bits !== undefined && (bits < 2048 || bits > 8192)) throw new Malformed("the RSA key has another size");
  const verifies = (message: string, signature: Uint8Array) =>
    verify(hash, Buffer.from(message), key, signature);
  return { algorithm, thumbprint, verifies };
}

interface Parameters {
  members: Record<string, string>;
  hash: string | null;
  input: Omit<VerifyKeyObjectInput, "key">;
}

function parameters(jwk: Json, algorithm: string): Parameters {
  const { kty, crv } = jwk as { kty: unknown; crv: unknown };
  const curve = { ES256: ["P-256", "sha256", 32], ES384: ["P-384", "sha384", 48] } as const;
  if (algorithm === "ES256" || algorithm === "ES384") {
    const [name, hash, size] = curve[algorithm];
    const [x, y] = [text(jwk["x"]), text(jwk["y"])];
    if (kty !== "EC" || crv !== name || decode(x).length !== size || decode(y).length !== size) {
      throw new Malformed("not a point of this curve");
    }
    return { members: { crv: name, kty, x, y }, hash, input: { dsaEncoding: "ieee-p1363" } };
  }
  if (algorithm === "EdDSA" && kty === "OKP" && crv === "Ed25519") {
    return { members: { crv, kty, x: text(jwk["x"]) }, hash: null, input: {} };
  }
  if ((algorithm === "PS256" || algorithm === "RS256") && kty === "RSA") {
    const [e, n] = [text(jwk["e"]), text(jwk["n"])];
    if (decode(e).length > 4) throw new Malformed("the exponent is too long");
    const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
    const input = algorithm === "PS256" ? pss : { padding: constants.RSA_PKCS1_PADDING };
    return { members: { e, kty, n }, hash: "sha256", input };
  }
  throw new Malformed("the key is for another algorithm");
}
