package keyward.verifier;

import java.util.Locale;

/** The token is refused. */
public final class Refused extends Exception {
  /** Why: the reasons that tests/vectors/README.md lists. */
  public enum Reason {
    API_KEY,
    MALFORMED,
    WRONG_TYPE,
    UNKNOWN_KEY,
    BAD_SIGNATURE,
    WRONG_ISSUER,
    WRONG_AUDIENCE,
    EXPIRED,
    NOT_YET_VALID,
    CERTIFICATE_REQUIRED,
    OTHER_CERTIFICATE,
    PROOF_REQUIRED,
    OTHER_KEY,
    NOT_BOUND_TO_KEY,
    INVALID_PROOF,
    REVOKED,
    FEED_LOST,
    NOT_READY;

    /** The name in the vectors. */
    public String code() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  private final Reason reason;

  Refused(Reason reason) {
    this(reason, null);
  }

  Refused(Reason reason, String detail) {
    // Anyone can send a bad token: without a stack trace it costs little.
    super(detail == null ? reason.code() : reason.code() + ": " + detail, null, false, false);
    this.reason = reason;
  }

  public Reason reason() {
    return reason;
  }

  /** Whether the verifier is the cause, and not the token: answer 503 (UNAVAILABLE), and not 401. */
  public boolean isTemporary() {
    return reason == Reason.FEED_LOST || reason == Reason.NOT_READY;
  }
}
