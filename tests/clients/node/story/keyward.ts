import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";

export type Headers = Record<string, string>;

/** What both libraries do. The messages are the same: those of protoc-gen-es. */
export interface Keyward {
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    headers?: Headers,
  ): Promise<MessageShape<O>>;
  watch<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    headers?: Headers,
  ): AsyncIterable<MessageShape<O>>;
  /** The reason of an error (`ErrorInfo`), and the wrong fields (`BadRequest`). */
  explain(error: unknown): { code: number; reason: string | undefined; fields: string[] };
  close(): void;
}
