// Follows keys and revocations over gRPC: connects, reads, resumes after a disconnect, renews its token.
//
// One session is one connection with both streams. It ends when one of them does, after a silence, and before its
// access token expires; the next one continues from the cursor.
import { setTimeout as sleep } from "node:timers/promises";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { FeedError, type Feed, type Kind, type Revocation } from "./revocations.js";

const CALL_MS = 5_000;
/** The server sends a message each second. */
const SILENCE_MS = 3_000;
const MAX_PAUSE_MS = 2_000;
const FORGET_EACH_SECONDS = 60;
const FILES = ["token/v1/token.proto", "access/v1/revocation.proto", "access/v1/key.proto"];

/** Where Keyward is, and the credential: of an application of `system` with the scope `keyward.verify`. */
export interface Server {
  /** `keyward.internal:50051` */
  target: string;
  clientId: string;
  clientSecret: string;
  /** Without TLS only for loopback, and for networks that are protected themselves. */
  tls?: grpc.ChannelCredentials;
  /** The folder with `keyward/access/v1/revocation.proto` and the others. */
  protos: string;
}

interface Seconds {
  seconds: number;
  nanos?: number;
}

/** `keyward.access.v1.WatchRevocationsResponse`, as proto-loader reads it. */
export interface RevocationsMessage {
  revocations: ({ number: number; epoch: number; revoked?: Kind; expire_time: Seconds | null } & {
    [kind in Kind]?: string;
  })[];
  cursor: string;
  snapshot: boolean;
  staleness: Seconds | null;
}

type Stream<T> = grpc.ClientReadableStream<T>;
type Stubs = Record<"token" | "revocations" | "keys", grpc.ServiceClientConstructor>;

export class Follower {
  readonly #stubs: Stubs;
  readonly #stop = new AbortController();
  /** The wall clock at the start, and then a monotonic one: setting the clock ahead must not remove revocations. */
  readonly #started = Date.now() / 1000 - monotonic();
  #forgot = 0;
  #running: Promise<void> | undefined;
  /** Why revocations are not followed. */
  trouble: Error | undefined;

  constructor(
    readonly server: Server,
    readonly feed: Feed,
    readonly takeKeys: (jwks: string) => void,
  ) {
    const files = FILES.map((file) => `keyward/${file}`);
    const options = { keepCase: true, longs: Number, defaults: true, oneofs: true };
    const loaded = grpc.loadPackageDefinition(loadSync(files, { ...options, includeDirs: [server.protos] }));
    const { token, access } = loaded["keyward"] as any;
    this.#stubs = {
      token: token.v1.TokenService,
      revocations: access.v1.RevocationService,
      keys: access.v1.KeyService,
    };
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let pause = 50; !signal.aborted; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      const began = monotonic();
      try {
        await this.#session();
        pause = 25;
        continue;
      } catch (error) {
        this.trouble = error as Error;
        const { code } = error as Partial<grpc.ServiceError>;
        // OUT_OF_RANGE: CURSOR_TOO_OLD. INVALID_ARGUMENT: the cursor is of something else.
        const isLost = code === grpc.status.OUT_OF_RANGE || code === grpc.status.INVALID_ARGUMENT;
        if (isLost || error instanceof FeedError) this.feed.lose();
      }
      if (monotonic() - began > 10) pause = 50;
      await sleep(pause * (0.5 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }

  /** Returns when the access token should be renewed. */
  async #session(): Promise<void> {
    const { target, tls = grpc.credentials.createInsecure() } = this.server;
    // A channel of its own, so that each session may reach another server behind the name.
    const channel = new grpc.Channel(target, tls, { "grpc.use_local_subchannel_pool": 1 });
    const client = (stub: grpc.ServiceClientConstructor): any =>
      new stub(target, tls, { channelOverride: channel });
    const streams: Stream<unknown>[] = [];
    try {
      const asked = monotonic();
      const token = await this.#token(client(this.#stubs.token));
      const metadata = new grpc.Metadata();
      metadata.set("authorization", `Bearer ${token.access_token}`);
      this.feed.begin();
      const revocations = client(this.#stubs.revocations);
      const { cursor } = this.feed;
      const watched: Stream<RevocationsMessage> = revocations.WatchRevocations({ cursor }, metadata);
      const keys: Stream<{ jwks: string }> = client(this.#stubs.keys).WatchJwks({}, metadata);
      streams.push(watched, keys);
      const renewIn = (asked + Number(token.expires_in.seconds) * 0.8 - monotonic()) * 1000;
      await this.#follow(watched, keys, renewIn);
    } finally {
      for (const stream of streams) {
        stream.on("error", () => undefined);
        stream.cancel();
      }
      channel.close();
    }
  }

  #token(client: any): Promise<{ access_token: string; expires_in: Seconds }> {
    const { clientId: client_id, clientSecret: client_secret } = this.server;
    const scopes = ["keyward.verify"];
    const request = { client_secret: { client_id, client_secret }, scopes, audiences: ["keyward"] };
    const options = { deadline: Date.now() + CALL_MS };
    return new Promise((resolve, reject) => {
      client.IssueToken(request, options, (error: grpc.ServiceError | null, answer: any) =>
        error ? reject(error) : resolve(answer),
      );
    });
  }

  #follow(watched: Stream<RevocationsMessage>, keys: Stream<{ jwks: string }>, renewIn: number): Promise<void> {
    const { signal } = this.#stop;
    return new Promise<void>((resolve, reject) => {
      const timers = new Set<NodeJS.Timeout>();
      const after = (milliseconds: number, then: () => void) => {
        const timer = setTimeout(then, Math.max(0, milliseconds));
        timers.add(timer);
        return timer;
      };
      const end = (error?: unknown) => {
        timers.forEach(clearTimeout);
        signal.removeEventListener("abort", onAbort);
        error === undefined ? resolve() : reject(error as Error);
      };
      const onAbort = () => end();
      signal.addEventListener("abort", onAbort);
      after(renewIn, end);
      const silence = after(SILENCE_MS, () => end(new Error("the server sends no messages")));
      const noKeys = after(SILENCE_MS, () => end(new Error("the server sends no keys")));
      for (const stream of [watched, keys]) {
        stream.on("error", end);
        stream.on("end", () => end(new Error("the server ended a stream")));
      }
      const guarded = (then: () => void) => {
        try {
          then();
        } catch (error) {
          end(error);
        }
      };
      keys.on("data", ({ jwks }: { jwks: string }) =>
        guarded(() => {
          this.takeKeys(jwks);
          clearTimeout(noKeys);
        }),
      );
      // The first message is not older than its request, and no other is older than its arrival.
      let [received, sent]: [number, number | undefined] = [monotonic(), monotonic()];
      watched.on("data", (message: RevocationsMessage) =>
        guarded(() => {
          const now = monotonic();
          // This process may have been suspended, and the message is as old as the pause.
          if ((now - received) * 1000 > SILENCE_MS) throw new Error("the stream was not read for a while");
          take(this.feed, message, sent ?? now);
          [received, sent] = [now, undefined];
          silence.refresh();
          this.trouble = undefined;
          this.#forget();
        }),
      );
    });
  }

  #forget(): void {
    const now = this.#started + monotonic();
    if (now < this.#forgot + FORGET_EACH_SECONDS) return;
    this.feed.revocations.forget(now);
    this.#forgot = now;
  }
}

/** Seconds on a clock that is never set. */
export function monotonic(): number {
  return performance.now() / 1000;
}

/** Applies a message that was sent at `sent`, on the monotonic clock, or later. */
export function take(feed: Feed, message: RevocationsMessage, sent: number): void {
  const { staleness } = message;
  const age = staleness && staleness.seconds + (staleness.nanos ?? 0) / 1e9;
  const entries = message.revocations.map(revocation);
  feed.take(entries, message.cursor, message.snapshot, age === null ? undefined : sent - age);
}

function revocation(message: RevocationsMessage["revocations"][number]): Revocation {
  const { number, revoked: kind, epoch, expire_time } = message;
  const name = kind && message[kind];
  if (!kind || name === undefined || number < 1 || !expire_time) {
    // A newer server revokes something that this version cannot represent.
    throw new FeedError(`revocation ${number} is of an unknown kind`);
  }
  return { number, kind, name, epoch, expiresAt: Number(expire_time.seconds) };
}
