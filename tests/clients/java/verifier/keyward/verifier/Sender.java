package keyward.verifier;

/**
 * What came with the token, for tokens that are bound to it (DPoP, RFC 9449; client certificates, RFC 8705).
 *
 * @param certificate the client certificate of the connection in DER, or null
 * @param dpop the DPoP proof, or null. A proof counts only with {@code Authorization: DPoP}. A verifier does not
 *     remember proofs: within 70 s one can be used again for the same request and token
 */
public record Sender(byte[] certificate, DpopProof dpop) {
  /** A token that came alone. */
  public static final Sender BEARER = new Sender(null, null);

  /**
   * The value of the header {@code DPoP}, and the request that it must be for. Refuse a request with two such headers.
   *
   * @param url the URL as the client sees it: what the service is configured with, and never the header {@code Host}
   */
  public record DpopProof(String proof, String method, String url) {}
}
