/** Why a token is refused: the reasons that tests/vectors/README.md lists. */
export type Reason =
  | "api_key"
  | "malformed"
  | "wrong_type"
  | "unknown_key"
  | "bad_signature"
  | "wrong_issuer"
  | "wrong_audience"
  | "expired"
  | "not_yet_valid"
  | "certificate_required"
  | "other_certificate"
  | "proof_required"
  | "other_key"
  | "not_bound_to_key"
  | "invalid_proof"
  | "revoked"
  | "feed_lost"
  | "not_ready";

/** The token is refused. */
export class Refused extends Error {
  constructor(
    readonly reason: Reason,
    detail = "",
  ) {
    super(detail ? `${reason}: ${detail}` : reason);
  }

  /** Whether the verifier is the cause, and not the token: answer 503 (UNAVAILABLE), and not 401. */
  get isTemporary(): boolean {
    return this.reason === "feed_lost" || this.reason === "not_ready";
  }
}
