// Keyward by Connect's gRPC transport.
import { create } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { setTimeout as sleep } from "node:timers/promises";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/typescript/google/rpc/error_details_pb.js";
import type { Keyward } from "./keyward.js";

const TIMEOUT_MS = 10_000;
const ATTEMPTS = 4;

/** Connect reads no service config. This is what ours says: calls without side effects are tried again. */
const retry: Interceptor = (next) => async (request) => {
  const isFree = request.method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (error) {
      const isAway = ConnectError.from(error).code === Code.Unavailable;
      if (request.stream || !isFree || !isAway || attempt === ATTEMPTS) throw error;
      await sleep(100 * 3 ** (attempt - 1) * Math.random());
    }
  }
};

export function connect(target: string): Keyward {
  const baseUrl = `http://${target}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    interceptors: [retry],
    defaultTimeoutMs: TIMEOUT_MS,
  });
  return {
    async call(method, request, headers) {
      const answer = await transport.unary(method, undefined, undefined, headers, request);
      return answer.message;
    },
    async *watch(method, request, headers) {
      const one = (async function* () {
        yield create(method.input, request);
      })();
      const stop = new AbortController();
      try {
        // 0: a stream has no deadline.
        const answer = await transport.stream(method, stop.signal, 0, headers, one);
        yield* answer.message;
      } finally {
        stop.abort();
      }
    },
    explain(error) {
      const { code, findDetails } = ConnectError.from(error);
      const find = findDetails.bind(error);
      const fields = find(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
      return { code, reason: find(ErrorInfoSchema)[0]?.reason, fields: fields.map(({ field }) => field) };
    },
    close: () => sessionManager.abort(),
  };
}
