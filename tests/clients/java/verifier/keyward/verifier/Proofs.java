package keyward.verifier;

import static keyward.verifier.Jose.text;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import keyward.verifier.Jose.Malformed;
import keyward.verifier.Refused.Reason;
import keyward.verifier.Sender.DpopProof;
import tools.jackson.databind.JsonNode;

/** What the sender of a token proved to have. */
final class Proofs {
  private static final int MAX_LENGTH = 8 * 1024;
  private static final int MAX_AGE = 70;
  private static final int MAX_AHEAD = 10;
  private static final Set<String> ALGORITHMS = Set.of("ES256", "ES384", "EdDSA", "PS256", "RS256");
  private static final Pattern URL =
      Pattern.compile(
          "(?i)(https?)://(\\[[0-9a-f:.]+\\]|[^:/?#@%\\[\\]]+)(?::([0-9]{0,5}))?(/[^?#]*)?(?:[?#].*)?");
  private static final Pattern URI_CHARACTERS = Pattern.compile("[!#-;=?-Z\\[\\]_a-z~]*");
  private static final Pattern ESCAPE = Pattern.compile("%(.{0,2})");
  private static final Map<String, Integer> PORTS = Map.of("http", 80, "https", 443);

  private Proofs() {}

  /** Refuses a sender that did not prove to have all that the token is bound to. */
  static void require(Verified.Bound bound, String token, Sender sender, Instant now)
      throws Refused {
    String key = sender.dpop() == null ? null : provenKey(sender.dpop(), token, now);
    if (bound.key() != null && key == null) {
      throw new Refused(Reason.PROOF_REQUIRED);
    }
    if (bound.key() == null && key != null) {
      // The client wanted the token to be bound (RFC 9449, section 7.1).
      throw new Refused(Reason.NOT_BOUND_TO_KEY);
    }
    if (bound.key() != null && !bound.key().equals(key)) {
      throw new Refused(Reason.OTHER_KEY);
    }
    if (bound.certificate() == null) {
      return;
    }
    if (sender.certificate() == null) {
      throw new Refused(Reason.CERTIFICATE_REQUIRED);
    }
    if (!bound.certificate().equals(Jose.sha256(sender.certificate()))) {
      throw new Refused(Reason.OTHER_CERTIFICATE);
    }
  }

  /** The thumbprint of the key that signed the proof. */
  private static String provenKey(DpopProof sent, String token, Instant now) throws Refused {
    try {
      return check(sent, token, now.getEpochSecond());
    } catch (Malformed malformed) {
      throw new Refused(Reason.INVALID_PROOF, malformed.getMessage());
    }
  }

  private static String check(DpopProof sent, String token, long now) throws Malformed {
    String[] parts = sent.proof().split("\\.", -1);
    if (sent.proof().length() > MAX_LENGTH || parts.length != 3) {
      throw new Malformed("not a proof");
    }
    JsonNode claims = Jose.parseObject(Jose.decode(parts[1]));
    Jose.Key key = key(Jose.parseObject(Jose.decode(parts[0])));
    if (!key.verifies(parts[0] + "." + parts[1], Jose.decode(parts[2]))) {
      throw new Malformed("the signature is wrong");
    }
    int length = text(claims, "jti").length();
    if (length < 1 || length > 256) {
      throw new Malformed("jti has another length");
    }
    if (!text(claims, "htm").equals(sent.method())) {
      throw new Malformed("htm is another method");
    }
    if (!normalUrl(text(claims, "htu")).equals(normalUrl(sent.url()))) {
      throw new Malformed("htu is another URL");
    }
    checkTimes(claims, now);
    byte[] hash = Jose.sha256(token.getBytes(StandardCharsets.UTF_8)).getBytes(StandardCharsets.UTF_8);
    if (!MessageDigest.isEqual(hash, text(claims, "ath").getBytes(StandardCharsets.UTF_8))) {
      throw new Malformed("ath is the hash of another token");
    }
    return key.thumbprint();
  }

  private static Jose.Key key(JsonNode header) throws Malformed {
    String algorithm = Jose.normal(text(header, "alg"));
    String typ = text(header, "typ").toLowerCase(Locale.ROOT).replaceFirst("^application/", "");
    boolean isExtended = header.has("crit") || header.has("b64");
    if (!typ.equals("dpop+jwt") || isExtended || !ALGORITHMS.contains(algorithm)) {
      throw new Malformed("the header is not that of a proof");
    }
    return Jose.parseKey(Jose.object(header.get("jwk")), algorithm);
  }

  private static void checkTimes(JsonNode claims, long now) throws Malformed {
    double issued = seconds(claims, "iat");
    double notBefore = claims.has("nbf") ? seconds(claims, "nbf") : 0;
    double expiry = claims.has("exp") ? seconds(claims, "exp") : now + 1;
    if (Math.max(issued, notBefore) > now + MAX_AHEAD) {
      throw new Malformed("the proof is from the future");
    }
    if (issued + MAX_AGE <= now || expiry <= now) {
      throw new Malformed("the proof is too old");
    }
  }

  private static double seconds(JsonNode claims, String name) throws Malformed {
    JsonNode number = claims.path(name);
    if (!number.isNumber() || number.doubleValue() < 0) {
      throw new Malformed(name + " is no time");
    }
    return number.doubleValue();
  }

  /** The URL without query and fragment, in one spelling (RFC 3986, sections 6.2.2 and 6.2.3). */
  private static String normalUrl(String url) throws Malformed {
    var parts = URL.matcher(url);
    if (!parts.matches() || !URI_CHARACTERS.matcher(url).matches()) {
      throw new Malformed("not the URL of a request");
    }
    String scheme = parts.group(1).toLowerCase(Locale.ROOT);
    String given = parts.group(3);
    int port = given == null || given.isEmpty() ? PORTS.get(scheme) : Integer.parseInt(given);
    String authority = parts.group(2).toLowerCase(Locale.ROOT);
    String suffix = port == PORTS.get(scheme) ? "" : ":" + port;
    String path = parts.group(4) == null ? "/" : parts.group(4);
    return scheme + "://" + authority + suffix + withoutDotSegments(normalEncoding(path));
  }

  /** A character that needs no encoding has none; the others have upper-case digits. */
  private static String normalEncoding(String path) throws Malformed {
    var normal = new StringBuilder();
    var escapes = ESCAPE.matcher(path);
    while (escapes.find()) {
      String digits = escapes.group(1);
      if (!digits.matches("[0-9A-Fa-f]{2}")) {
        throw new Malformed("a percent sign starts no encoding");
      }
      String character = Character.toString(Integer.parseInt(digits, 16));
      boolean isPlain = character.matches("[A-Za-z0-9._~-]");
      escapes.appendReplacement(normal, isPlain ? character : "%" + digits.toUpperCase(Locale.ROOT));
    }
    return escapes.appendTail(normal).toString();
  }

  private static String withoutDotSegments(String path) {
    var kept = new ArrayList<String>();
    String last = "";
    for (String segment : path.substring(1).split("/", -1)) {
      last = segment;
      if (segment.equals("..")) {
        if (!kept.isEmpty()) {
          kept.remove(kept.size() - 1);
        }
      } else if (!segment.equals(".")) {
        kept.add(segment);
      }
    }
    if (last.equals(".") || last.equals("..")) {
      kept.add("");
    }
    return "/" + String.join("/", kept);
  }
}
