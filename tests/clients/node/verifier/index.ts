export type { Server } from "./follower.js";
export type { DpopProof, Sender } from "./proofs.js";
export { Refused, type Reason } from "./refused.js";
export type { Verified } from "./tokens.js";
export { Verifier, type Settings } from "./verifier.js";
