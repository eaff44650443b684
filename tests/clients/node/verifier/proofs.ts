// What the sender of a token proved to have: a key (DPoP, RFC 9449) or a client certificate (RFC 8705).
import { decode, Malformed, normal, object, parseObject, publicKey, sha256, text, type Json } from "./jose.js";
import { Refused } from "./refused.js";
import type { Verified } from "./tokens.js";

const MAX_LENGTH = 8 * 1024;
const MAX_AGE = 70;
const MAX_AHEAD = 10;
const ALGORITHMS: unknown[] = ["ES256", "ES384", "EdDSA", "PS256", "RS256"];
const PORTS: Record<string, number> = { http: 80, https: 443 };
const URL_FORM =
  /^(https?):\/\/(\[[0-9a-f:.]+\]|[^:/?#@%[\]]+)(?::([0-9]*))?(\/[^?#]*)?(?:[?#].*)?$/i;
const URI_CHARACTERS = /^[!#-;=?-Z[\]_a-z~]*$/;

/**
 * The value of the header `DPoP`, and the request that it must be for. `url` is the URL as the client sees it:
 * what the service is configured with, and never the header `Host`. Refuse a request with two such headers.
 */
export interface DpopProof {
  proof: string;
  method: string;
  url: string;
}

/**
 * What came with the token: the client certificate of the connection in DER, and a DPoP proof. A proof counts
 * only with `Authorization: DPoP`. A verifier does not remember proofs: within 70 s one can be used again for
 * the same request and token.
 */
export interface Sender {
  certificate?: Uint8Array | undefined;
  dpop?: DpopProof | undefined;
}

/** Refuses a sender that did not prove to have all that the token is bound to. */
export function require(bound: Verified["bound"], token: string, sender: Sender, now: number): void {
  const key = sender.dpop && provenKey(sender.dpop, token, now);
  const { jkt, "x5t#S256": certificate } = bound;
  if (jkt !== undefined && key === undefined) throw new Refused("proof_required");
  // The client wanted the token to be bound (RFC 9449, section 7.1).
  if (jkt === undefined && key !== undefined) throw new Refused("not_bound_to_key");
  if (jkt !== key) throw new Refused("other_key");
  if (certificate === undefined) return;
  if (!sender.certificate) throw new Refused("certificate_required");
  if (certificate !== sha256(sender.certificate)) throw new Refused("other_certificate");
}

/** The thumbprint of the key that signed the proof. */
function provenKey(sent: DpopProof, token: string, now: number): string {
  try {
    return check(sent, token, now);
  } catch (error) {
    if (error instanceof Malformed) throw new Refused("invalid_proof", error.message);
    throw error;
  }
}

function check(sent: DpopProof, token: string, now: number): string {
  const parts = sent.proof.split(".");
  if (sent.proof.length > MAX_LENGTH || parts.length !== 3) throw new Malformed("not a proof");
  const [head, payload, signature] = parts as [string, string, string];
  const [header, claims] = [parseObject(decode(head)), parseObject(decode(payload))];
  const algorithm = normal(header["alg"]);
  const typ = text(header["typ"]).toLowerCase().replace(/^application\//, "");
  if (typ !== "dpop+jwt" || "crit" in header || "b64" in header || !ALGORITHMS.includes(algorithm)) {
    throw new Malformed("the header is not that of a proof");
  }
  const key = publicKey(object(header["jwk"]), text(algorithm));
  if (!key.verifies(`${head}.${payload}`, decode(signature))) throw new Malformed("the signature is wrong");
  const id = text(claims["jti"]);
  if (id.length < 1 || id.length > 256) throw new Malformed("jti has another length");
  if (text(claims["htm"]) !== sent.method) throw new Malformed("htm is another method");
  if (normalUrl(text(claims["htu"])) !== normalUrl(sent.url)) throw new Malformed("htu is another URL");
  checkTimes(claims, now);
  if (text(claims["ath"]) !== sha256(token)) throw new Malformed("ath is the hash of another token");
  return key.thumbprint;
}

function checkTimes(claims: Json, now: number): void {
  const issued = seconds(claims["iat"]);
  const [notBefore, expiry] = [claims["nbf"] ?? 0, claims["exp"] ?? now + 1].map(seconds) as [number, number];
  if (Math.max(issued, notBefore) > now + MAX_AHEAD) throw new Malformed("the proof is from the future");
  if (issued + MAX_AGE <= now || expiry <= now) throw new Malformed("the proof is too old");
}

function seconds(value: unknown): number {
  if (typeof value !== "number" || value < 0) throw new Malformed("a time is no number");
  return value;
}

/** The URL without query and fragment, in one spelling (RFC 3986, sections 6.2.2 and 6.2.3). */
export function normalUrl(url: string): string {
  const parts = URL_FORM.exec(url);
  if (!parts || !URI_CHARACTERS.test(url)) throw new Malformed("not the URL of a request");
  const [, scheme, host, port, path] = parts as unknown as [string, string, string, string?, string?];
  const lower = scheme.toLowerCase();
  const number = port ? Number(port) : PORTS[lower]!;
  const authority = host.toLowerCase() + (number === PORTS[lower] ? "" : `:${number}`);
  const encoded = (path ?? "/").replace(/%(.{0,2})/g, (_, digits: string) => normalEncoding(digits));
  return `${lower}://${authority}${withoutDotSegments(encoded)}`;
}

/** A character that needs no encoding has none; the others have upper-case digits. */
function normalEncoding(digits: string): string {
  if (!/^[0-9a-f]{2}$/i.test(digits)) throw new Malformed("a percent sign starts no encoding");
  const character = String.fromCharCode(parseInt(digits, 16));
  return /^[A-Za-z0-9._~-]$/.test(character) ? character : `%${digits.toUpperCase()}`;
}

function withoutDotSegments(path: string): string {
  const kept: string[] = [];
  const segments = path.slice(1).split("/");
  for (const segment of segments) {
    if (segment === "..") kept.pop();
    else if (segment !== ".") kept.push(segment);
  }
  if ([".", ".."].includes(segments.at(-1)!)) kept.push("");
  return `/${kept.join("/")}`;
}
