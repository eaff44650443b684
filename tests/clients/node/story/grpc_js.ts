// Keyward by @grpc/grpc-js, with the messages of protoc-gen-es.
import { create, fromBinary, toBinary, type DescMessage, type DescMethod, type MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/typescript/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/typescript/google/rpc/status_pb.js";
import type { Headers, Keyward } from "./keyward.js";

/** A client with a deadline and retries for each call, by the service config of the repository. */
export function grpcJs(target: string): Keyward {
  const file = join(process.env["KEYWARD_PROTOS"]!, "keyward_grpc_service_config.json");
  const options = { "grpc.service_config": readFileSync(file, "utf8") };
  const client = new grpc.Client(target, grpc.credentials.createInsecure(), options);
  return {
    call: (method, request, headers) =>
      new Promise((resolve, reject) => {
        const { path, write, read } = codec(method.input, method.output, method);
        const message = create(method.input, request);
        client.makeUnaryRequest(path, write, read, message, metadata(headers), (error, answer) =>
          error ? reject(error) : resolve(answer!),
        );
      }),
    async *watch(method, request, headers) {
      const { path, write, read } = codec(method.input, method.output, method);
      const message = create(method.input, request);
      const call = client.makeServerStreamRequest(path, write, read, message, metadata(headers));
      try {
        yield* call;
      } finally {
        // What the cancellation ends with is not for anyone to read.
        call.on("error", () => undefined);
        call.cancel();
      }
    },
    explain(error) {
      const { code, metadata } = error as grpc.ServiceError;
      const [status] = metadata.get("grpc-status-details-bin");
      const { details } = fromBinary(StatusSchema, status as Buffer);
      const info = details.map((detail) => anyUnpack(detail, ErrorInfoSchema)).find(Boolean);
      const fields = details.flatMap((detail) => anyUnpack(detail, BadRequestSchema)?.fieldViolations ?? []);
      return { code, reason: info?.reason, fields: fields.map(({ field }) => field) };
    },
    close: () => client.close(),
  };
}

function codec<I extends DescMessage, O extends DescMessage>(input: I, output: O, method: DescMethod) {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    write: (message: MessageShape<I>) => Buffer.from(toBinary(input, message)),
    read: (data: Buffer) => fromBinary(output, data),
  };
}

function metadata(headers: Headers = {}): grpc.Metadata {
  const made = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) made.set(name, value);
  return made;
}
