// The list of revocations, and how the messages of `WatchRevocations` change it.
import type { Verified } from "./tokens.js";

/** An entry is kept for an hour after its end: servers and clocks can be behind. */
const MARGIN = 3600;

/** What an entry revokes, by the claim of a token. */
export type Kind = "token_id" | "client_id" | "subject" | "tenant" | "key_id";

export interface Revocation {
  number: number;
  kind: Kind;
  name: string;
  /** Tokens with a lower epoch are revoked. 0 for a single token or a key. */
  epoch: number;
  /** In seconds since 1970. */
  expiresAt: number;
}

/** A message that cannot be followed. It is never skipped: the list would have a gap. */
export class FeedError extends Error {}

/** The revocations in force. Entries with the same subject are one, with the higher epoch. */
export class RevocationList {
  readonly #inForce = new Map<string, { epoch: number; end: number }>();

  get size(): number {
    return this.#inForce.size;
  }

  add({ kind, name, epoch, expiresAt }: Revocation): void {
    const key = `${kind} ${name}`;
    const known = this.#inForce.get(key) ?? { epoch: 0, end: 0 };
    this.#inForce.set(key, { epoch: Math.max(known.epoch, epoch), end: Math.max(known.end, expiresAt) });
  }

  forget(now: number): void {
    for (const [key, { end }] of this.#inForce) {
      if (end + MARGIN <= now) this.#inForce.delete(key);
    }
  }

  /** Whether the token, or one of those that it rests on, is revoked. */
  revokes(token: Verified): boolean {
    return token.parents.some(
      (parent) =>
        this.isBelow("tenant", token.tenant, parent.epochs[0]) ||
        this.isBelow("subject", parent.subject, parent.epochs[1]) ||
        this.isBelow("client_id", parent.clientId, parent.epochs[2]) ||
        this.#inForce.has(`token_id ${parent.tokenId}`) ||
        this.#inForce.has(`key_id ${parent.keyId}`),
    );
  }

  /** Whether tokens with this epoch of a tenant, subject or client are revoked. */
  isBelow(kind: Kind, name: string, epoch: number): boolean {
    return epoch < (this.#inForce.get(`${kind} ${name}`)?.epoch ?? 0);
  }
}

/** The position in the list. A snapshot takes effect when it is complete, and removes nothing. */
export class Feed {
  cursor = "";
  /** The time as of which the list is complete, on the monotonic clock. `undefined`: it was never read. */
  confirmed: number | undefined;
  #snapshot: Revocation[] | undefined;
  /** The number of the last entry. `undefined`: entries can be missing before the next one. */
  #last: number | undefined;

  constructor(readonly revocations = new RevocationList()) {}

  /** A new stream: an incomplete snapshot is discarded. */
  begin(): void {
    this.#snapshot = undefined;
  }

  /** The next stream starts with a snapshot. What is in force stays in force. */
  lose(): void {
    this.cursor = "";
  }

  /** Applies a message. `completeAsOf` is unset if more messages follow at once. */
  take(entries: Revocation[], cursor: string, isSnapshot: boolean, completeAsOf: number | undefined): void {
    if (isSnapshot) {
      this.#snapshot = [...(this.#snapshot ?? []), ...entries];
      return;
    }
    if (this.#snapshot) {
      for (const entry of this.#snapshot) this.revocations.add(entry);
      // Another server can know less than the one before.
      this.#snapshot = this.#last = this.confirmed = undefined;
    } else if (!this.cursor) {
      throw new FeedError("the first message is not a snapshot");
    }
    let last = this.#last;
    for (const { number } of entries) {
      if (last !== undefined && number > last + 1) {
        throw new FeedError(`entry ${number} does not continue entry ${last}`);
      }
      last = Math.max(last ?? 0, number);
    }
    for (const entry of entries) this.revocations.add(entry);
    this.#last = last;
    this.cursor = cursor;
    if (completeAsOf !== undefined) this.confirmed = Math.max(this.confirmed ?? completeAsOf, completeAsOf);
  }
}
