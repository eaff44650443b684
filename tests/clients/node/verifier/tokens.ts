// Access tokens (RFC 9068): their form, signature, claims and times.
import { decode, Malformed, object, parseObject, publicKey, text, type Json, type PublicKey } from "./jose.js";
import { Refused } from "./refused.js";

const MAX_LENGTH = 6 * 1024;
/** How far ahead the clock of the server may be, in seconds. */
const MAX_AHEAD = 60;
const ALGORITHMS = ["ES256", "EdDSA", "PS256", "RS256"];
const PARENT_MEMBERS = ["sub", "client_id", "epochs", "jti", "kid", "actor"];

export type Keys = ReadonlyMap<string, PublicKey>;

/** What a token rests on: the client that it was issued to, or in an exchanged token one of several. */
export interface Parent {
  subject: string;
  clientId: string;
  /** Of tenant, application and credential. */
  epochs: [number, number, number];
  tokenId: string | undefined;
  keyId: string | undefined;
}

/** The claims of a verified token. */
export interface Verified {
  tenant: string;
  application: string;
  clientId: string;
  tokenId: string;
  scopes: string[];
  roles: string[];
  audiences: string[];
  /** In seconds since 1970. */
  issuedAt: number;
  expiresAt: number;
  keyId: string;
  /** What the token is bound to. */
  bound: { jkt?: string; "x5t#S256"?: string };
  parents: Parent[];
}

/** The keys of a set, by `kid`. Those of a newer server that are not known here are skipped. */
export function parseKeys(jwks: string): Map<string, PublicKey> {
  const keys = new Map<string, PublicKey>();
  const all = parseObject(Buffer.from(jwks))["keys"];
  if (!Array.isArray(all)) throw new Malformed("not a key set");
  for (const jwk of all) {
    try {
      const algorithm = text(object(jwk)["alg"]);
      if (ALGORITHMS.includes(algorithm)) keys.set(text(jwk["kid"]), publicKey(jwk, algorithm));
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
    }
  }
  return keys;
}

/** Verifies all of a token except its audience, what it is bound to, and revocation. */
export function read(token: string, keys: Keys, issuer: string, now: number): Verified {
  const parts = token.split(".");
  if (token.length > MAX_LENGTH || parts.length !== 3) throw new Refused("malformed");
  const [header, payload, signature] = orMalformed(() => {
    const [first, ...others] = parts.map(decode);
    return [parseObject(first!), ...others] as [Json, Buffer, Buffer];
  });
  const [keyId, key] = named(header, keys);
  if (!key.verifies(token.slice(0, token.lastIndexOf(".")), signature)) throw new Refused("bad_signature");
  const [verified, claims] = orMalformed(() => {
    const claims = parseObject(payload);
    return [readClaims(claims, keyId), claims] as const;
  });
  if (claims["iss"] !== issuer) throw new Refused("wrong_issuer");
  checkTime(verified, now);
  return verified;
}

export function checkTime(token: Verified, now: number): void {
  if (token.expiresAt <= now) throw new Refused("expired");
  if (token.issuedAt > now + MAX_AHEAD) throw new Refused("not_yet_valid");
}

function orMalformed<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof Malformed) throw new Refused("malformed", error.message);
    throw error;
  }
}

/** The key that the header names. Keys and addresses in the header (`jwk`, `jku`) do not count. */
function named(header: Json, keys: Keys): [string, PublicKey] {
  const { alg, kid = "", typ } = header;
  if (typeof alg !== "string" || typeof kid !== "string") throw new Refused("malformed");
  if (typ !== "at+jwt" || "crit" in header) throw new Refused("wrong_type");
  const key = keys.get(kid);
  if (!key) throw new Refused("unknown_key");
  if (key.algorithm !== alg) throw new Refused("bad_signature");
  return [kid, key];
}

function readClaims(claims: Json, keyId: string): Verified {
  text(claims["iss"]);
  const audience = claims["aud"];
  const verified = {
    tenant: text(claims["tenant"]),
    application: text(claims["sub"]),
    clientId: text(claims["client_id"]),
    tokenId: text(claims["jti"]),
    scopes: text(claims["scope"]).split(" ").filter(Boolean),
    roles: texts(claims["roles"] ?? []),
    audiences: typeof audience === "string" ? [audience] : texts(audience),
    issuedAt: integer(claims["iat"]),
    expiresAt: integer(claims["exp"]),
    keyId,
    bound: readBound(claims["cnf"] ?? {}),
  };
  object(claims["act"] ?? {});
  return { ...verified, parents: readParents(claims, verified) };
}

/** All that the token rests on, itself included. */
function readParents(claims: Json, token: Omit<Verified, "parents">): Parent[] {
  const { application: subject, clientId, tokenId, keyId } = token;
  const chain = claims["parents"] ?? undefined;
  if (chain === undefined) {
    return [{ subject, clientId, epochs: readEpochs(claims["epochs"]), tokenId, keyId }];
  }
  if (!Array.isArray(chain) || chain.length < 2 || (claims["epochs"] ?? undefined) !== undefined) {
    throw new Malformed("parents in place of epochs");
  }
  const parents = chain.map(readParent);
  const last = parents.at(-1)!;
  if (parents[0]!.subject !== subject || last.clientId !== clientId) {
    throw new Malformed("parents of another token");
  }
  return [...parents, { ...last, tokenId, keyId }];
}

function readParent(value: unknown): Parent {
  const element = object(value);
  requireMembers(element, PARENT_MEMBERS);
  const optional = (id: unknown) => (id === undefined || id === null ? undefined : text(id));
  return {
    subject: text(element["sub"]),
    clientId: text(element["client_id"]),
    epochs: readEpochs(element["epochs"]),
    tokenId: optional(element["jti"]),
    keyId: optional(element["kid"]),
  };
}

/** A member that is not known cannot be checked. */
function readBound(value: unknown): Verified["bound"] {
  const cnf = object(value);
  requireMembers(cnf, ["jkt", "x5t#S256"]);
  Object.values(cnf).forEach(text);
  return cnf;
}

function requireMembers(value: Json, known: string[]): void {
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Malformed("a member is not known");
}

function readEpochs(value: unknown): [number, number, number] {
  if (!Array.isArray(value) || value.length !== 3) throw new Malformed("not three epochs");
  return value.map(integer) as [number, number, number];
}

function texts(value: unknown): string[] {
  if (!Array.isArray(value)) throw new Malformed("not a list");
  return value.map(text);
}

function integer(value: unknown): number {
  if (!Number.isSafeInteger(value)) throw new Malformed("not a whole number");
  return value as number;
}
