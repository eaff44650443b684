package keyward.verifier;

import java.time.Instant;
import java.util.List;

/** The claims of a verified token. */
public record Verified(
    String tenant,
    String application,
    String clientId,
    String tokenId,
    List<String> scopes,
    List<String> roles,
    List<String> audiences,
    Instant issuedAt,
    Instant expiresAt,
    String keyId,
    Bound bound,
    List<Parent> parents) {

  /** What a token is bound to: the thumbprints of a key and of a certificate. Null: to none. */
  public record Bound(String key, String certificate) {}

  /**
   * What a token rests on: the client that it was issued to, or in an exchanged token one of several. The epochs are
   * those of tenant, application and credential. The ids are null if the client presented an API key.
   */
  public record Parent(
      String subject, String clientId, Epochs epochs, String tokenId, String keyId) {}

  public record Epochs(long tenant, long application, long credential) {}

  public boolean hasScopes(String... required) {
    return scopes.containsAll(List.of(required));
  }
}
