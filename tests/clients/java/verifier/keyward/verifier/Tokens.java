package keyward.verifier;

import static keyward.verifier.Jose.object;
import static keyward.verifier.Jose.text;

import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Stream;
import keyward.verifier.Jose.Malformed;
import keyward.verifier.Refused.Reason;
import keyward.verifier.Verified.Bound;
import keyward.verifier.Verified.Epochs;
import keyward.verifier.Verified.Parent;
import tools.jackson.databind.JsonNode;

/** Access tokens (RFC 9068): their form, signature, claims and times. */
final class Tokens {
  private static final int MAX_LENGTH = 6 * 1024;

  /** How far ahead the clock of the server may be, in seconds. */
  private static final long MAX_AHEAD = 60;

  private static final Set<String> ALGORITHMS = Set.of("ES256", "EdDSA", "PS256", "RS256");
  private static final Set<String> PARENT_MEMBERS =
      Set.of("sub", "client_id", "epochs", "jti", "kid", "actor");

  private Tokens() {}

  /** Reads a set of keys, by {@code kid}. Those of a newer server that are not known here are skipped. */
  static Map<String, Jose.Key> parseKeys(byte[] jwks) throws Malformed {
    var keys = new HashMap<String, Jose.Key>();
    for (JsonNode jwk : Jose.parseObject(jwks).path("keys")) {
      try {
        String algorithm = text(jwk, "alg");
        if (ALGORITHMS.contains(algorithm)) {
          keys.put(text(jwk, "kid"), Jose.parseKey(jwk, algorithm));
        }
      } catch (Malformed skipped) {
        continue;
      }
    }
    return Map.copyOf(keys);
  }

  /** Verifies all of a token except its audience, what it is bound to, and revocation. */
  static Verified read(String token, Map<String, Jose.Key> keys, String issuer, Instant now)
      throws Refused {
    String[] parts = token.split("\\.", -1);
    if (token.length() > MAX_LENGTH || parts.length != 3) {
      throw new Refused(Reason.MALFORMED);
    }
    Verified verified;
    String claimedIssuer;
    try {
      String keyId = named(Jose.parseObject(Jose.decode(parts[0])), keys);
      String message = parts[0] + "." + parts[1];
      if (!keys.get(keyId).verifies(message, Jose.decode(parts[2]))) {
        throw new Refused(Reason.BAD_SIGNATURE);
      }
      JsonNode claims = Jose.parseObject(Jose.decode(parts[1]));
      claimedIssuer = text(claims, "iss");
      verified = readClaims(claims, keyId);
    } catch (Malformed malformed) {
      throw new Refused(Reason.MALFORMED, malformed.getMessage());
    }
    if (!claimedIssuer.equals(issuer)) {
      throw new Refused(Reason.WRONG_ISSUER);
    }
    checkTime(verified, now);
    return verified;
  }

  static void checkTime(Verified token, Instant now) throws Refused {
    if (token.expiresAt().getEpochSecond() <= now.getEpochSecond()) {
      throw new Refused(Reason.EXPIRED);
    }
    if (token.issuedAt().getEpochSecond() > now.getEpochSecond() + MAX_AHEAD) {
      throw new Refused(Reason.NOT_YET_VALID);
    }
  }

  /** The key that the header names. Keys and addresses in the header ({@code jwk}) do not count. */
  private static String named(JsonNode header, Map<String, Jose.Key> keys)
      throws Malformed, Refused {
    String algorithm = text(header, "alg");
    String keyId = header.has("kid") ? text(header, "kid") : "";
    if (!header.path("typ").asString("").equals("at+jwt") || header.has("crit")) {
      throw new Refused(Reason.WRONG_TYPE);
    }
    Jose.Key key = keys.get(keyId);
    if (key == null) {
      throw new Refused(Reason.UNKNOWN_KEY);
    }
    if (!key.algorithm().equals(algorithm)) {
      throw new Refused(Reason.BAD_SIGNATURE);
    }
    return keyId;
  }

  private static Verified readClaims(JsonNode claims, String keyId) throws Malformed {
    JsonNode audience = claims.path("aud");
    if (has(claims, "act")) {
      object(claims.get("act"));
    }
    return new Verified(
        text(claims, "tenant"),
        text(claims, "sub"),
        text(claims, "client_id"),
        text(claims, "jti"),
        Stream.of(text(claims, "scope").split(" ")).filter(scope -> !scope.isEmpty()).toList(),
        has(claims, "roles") ? texts(claims.get("roles")) : List.of(),
        audience.isString() ? List.of(audience.stringValue()) : texts(audience),
        Instant.ofEpochSecond(integer(claims.path("iat"))),
        Instant.ofEpochSecond(integer(claims.path("exp"))),
        keyId,
        readBound(claims),
        readParents(claims, keyId));
  }

  /** Whether a member is there, and not null. */
  private static boolean has(JsonNode object, String name) {
    return object.hasNonNull(name);
  }

  private static String optionalText(JsonNode object, String name) throws Malformed {
    return has(object, name) ? text(object, name) : null;
  }

  /** A member that is not known cannot be checked. */
  private static Bound readBound(JsonNode claims) throws Malformed {
    if (!has(claims, "cnf")) {
      return new Bound(null, null);
    }
    JsonNode cnf = object(claims.get("cnf"));
    requireMembers(cnf, Set.of("jkt", "x5t#S256"));
    return new Bound(optionalText(cnf, "jkt"), optionalText(cnf, "x5t#S256"));
  }

  /** All that the token rests on, itself included. */
  private static List<Parent> readParents(JsonNode claims, String keyId) throws Malformed {
    String subject = text(claims, "sub");
    String clientId = text(claims, "client_id");
    String tokenId = text(claims, "jti");
    JsonNode chain = claims.path("parents");
    if (!has(claims, "parents")) {
      return List.of(new Parent(subject, clientId, epochs(claims), tokenId, keyId));
    }
    if (!chain.isArray() || chain.size() < 2 || has(claims, "epochs")) {
      throw new Malformed("parents in place of epochs");
    }
    var parents = new ArrayList<Parent>();
    for (JsonNode element : chain) {
      requireMembers(object(element), PARENT_MEMBERS);
      String id = optionalText(element, "jti");
      String key = optionalText(element, "kid");
      parents.add(new Parent(text(element, "sub"), text(element, "client_id"), epochs(element), id, key));
    }
    Parent last = parents.get(parents.size() - 1);
    if (!parents.get(0).subject().equals(subject) || !last.clientId().equals(clientId)) {
      throw new Malformed("parents of another token");
    }
    parents.add(new Parent(last.subject(), last.clientId(), last.epochs(), tokenId, keyId));
    return List.copyOf(parents);
  }

  private static void requireMembers(JsonNode object, Set<String> known) throws Malformed {
    if (!known.containsAll(object.propertyNames())) {
      throw new Malformed("a member is not known");
    }
  }

  private static Epochs epochs(JsonNode object) throws Malformed {
    JsonNode epochs = object.path("epochs");
    if (!epochs.isArray() || epochs.size() != 3) {
      throw new Malformed("not three epochs");
    }
    return new Epochs(integer(epochs.get(0)), integer(epochs.get(1)), integer(epochs.get(2)));
  }

  private static List<String> texts(JsonNode array) throws Malformed {
    if (!array.isArray()) {
      throw new Malformed("not a list");
    }
    var texts = new ArrayList<String>();
    for (JsonNode element : array) {
      if (!element.isString()) {
        throw new Malformed("not a text");
      }
      texts.add(element.stringValue());
    }
    return List.copyOf(texts);
  }

  private static long integer(JsonNode number) throws Malformed {
    // Instant has less than the range of a long.
    if (!number.isIntegralNumber() || !number.canConvertToLong() || Math.abs(number.longValue()) >> 54 != 0) {
      throw new Malformed("not a whole number");
    }
    return number.longValue();
  }
}
