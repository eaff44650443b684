import { setTimeout as sleep } from "node:timers/promises";
import { Follower, monotonic, type Server } from "./follower.js";
import * as proofs from "./proofs.js";
import { Refused } from "./refused.js";
import { Feed } from "./revocations.js";
import * as tokens from "./tokens.js";

export interface Settings {
  issuer: string;
  audience: string;
  /** The maximum age of the revocation data in seconds: 5 by default, 2 at least. */
  maxLag?: number;
  apiKeyPrefix?: string;
  /** Seconds since 1970. */
  clock?: () => number;
  monotonic?: () => number;
}

/**
 * Verifies access tokens without a call for each. Until it follows a server, and while its data is older than
 * `maxLag`, good tokens are refused with `not_ready` or `feed_lost`.
 */
export class Verifier {
  readonly feed = new Feed();
  readonly #settings: Required<Settings>;
  #keys: tokens.Keys = new Map();
  #follower: Follower | undefined;

  constructor(settings: Settings) {
    const clock = () => Math.floor(Date.now() / 1000);
    this.#settings = { maxLag: 5, apiKeyPrefix: "kwk", clock, monotonic, ...settings };
    if (this.#settings.maxLag < 2) throw new RangeError("maxLag must be at least 2 s");
  }

  /** Connects, and waits until keys and revocations are read. */
  async follow(server: Server, readyWithinSeconds = 30): Promise<void> {
    this.#follower = new Follower(server, this.feed, (jwks) => this.takeKeys(jwks));
    this.#follower.start();
    const deadline = monotonic() + readyWithinSeconds;
    while (this.#keys.size === 0 || this.feed.confirmed === undefined) {
      if (monotonic() > deadline) {
        const cause = this.#follower.trouble;
        throw new Error(`the verifier was not ready within ${readyWithinSeconds} s`, { cause });
      }
      await sleep(10);
    }
  }

  async close(): Promise<void> {
    await this.#follower?.stop();
  }

  /** Replaces the key set as a whole. */
  takeKeys(jwks: string): void {
    this.#keys = tokens.parseKeys(jwks);
  }

  /** The age of the revocation data in seconds. `undefined`: it was never read. */
  lag(): number | undefined {
    const { confirmed } = this.feed;
    return confirmed === undefined ? undefined : this.#settings.monotonic() - confirmed;
  }

  /** Verifies a token, and that the sender has what it is bound to. Throws `Refused`. */
  verify(token: string, sender: proofs.Sender = {}): tokens.Verified {
    const { issuer, audience, apiKeyPrefix, clock } = this.#settings;
    // Only Keyward can verify an API key: call AccessService.CheckAccess.
    if (token.startsWith(`${apiKeyPrefix}_`)) throw new Refused("api_key");
    if (this.#keys.size === 0) throw new Refused("not_ready");
    const now = clock();
    const verified = this.#read(token, issuer, now);
    if (!verified.audiences.includes(audience)) throw new Refused("wrong_audience");
    proofs.require(verified.bound, token, sender, now);
    this.#requireUnrevoked(verified);
    return verified;
  }

  /** Checks expiry and revocation of a verified token again, for long requests such as streams. */
  recheck(token: tokens.Verified): void {
    tokens.checkTime(token, this.#settings.clock());
    if (!this.#keys.has(token.keyId)) throw new Refused("unknown_key");
    this.#requireUnrevoked(token);
  }

  #read(token: string, issuer: string, now: number): tokens.Verified {
    try {
      return tokens.read(token, this.#keys, issuer, now);
    } catch (error) {
      // The key may have been published since.
      if (error instanceof Refused && error.reason === "unknown_key" && this.#isLost(this.lag())) {
        throw new Refused("feed_lost");
      }
      throw error;
    }
  }

  #requireUnrevoked(token: tokens.Verified): void {
    const lag = this.lag();
    if (this.feed.revocations.revokes(token)) throw new Refused("revoked");
    if (lag === undefined) throw new Refused("not_ready");
    if (this.#isLost(lag)) throw new Refused("feed_lost", `revocations of the last ${lag} s are unknown: retry`);
  }

  #isLost(lag: number | undefined): boolean {
    return lag !== undefined && lag > this.#settings.maxLag;
  }
}
