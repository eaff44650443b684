package keyward.verifier;

import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.interfaces.ECPublicKey;
import java.security.spec.ECFieldFp;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PSSParameterSpec;
import java.security.spec.RSAPublicKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import tools.jackson.core.JacksonException;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** Signatures and keys: the part of RFC 7515 and 7517 that tokens and proofs need. */
final class Jose {
  private static final JsonMapper JSON =
      JsonMapper.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .build();
  private static final Base64.Encoder ENCODER = Base64.getUrlEncoder().withoutPadding();
  private static final List<String> PRIVATE_MEMBERS =
      List.of("d", "p", "q", "dp", "dq", "qi", "oth", "k");
  private static final PSSParameterSpec PSS =
      new PSSParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, 32, 1);

  /** What is before the key itself in a SubjectPublicKeyInfo. */
  private static final Map<String, byte[]> KEY_INFO =
      Map.of(
          "P-256", hex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
          "P-384", hex("3076301006072a8648ce3d020106052b8104002203620004"),
          "Ed25519", hex("302a300506032b6570032100"));

  /** The input does not have the required form. */
  static final class Malformed extends Exception {
    Malformed(String detail) {
      super(detail, null, false, false);
    }
  }

  /** A key for one algorithm. */
  record Key(String algorithm, String thumbprint, PublicKey key, int signatureLength) {
    boolean verifies(String message, byte[] given) {
      if (given.length != signatureLength) {
        return false;
      }
      try {
        Signature signature = Signature.getInstance(implementation(algorithm));
        if (algorithm.equals("PS256")) {
          signature.setParameter(PSS);
        }
        signature.initVerify(key);
        signature.update(message.getBytes(StandardCharsets.US_ASCII));
        return signature.verify(given);
      } catch (GeneralSecurityException error) {
        return false;
      }
    }
  }

  private Jose() {}

  private static byte[] hex(String digits) {
    return HexFormat.of().parseHex(digits);
  }

  private static String implementation(String algorithm) {
    return switch (algorithm) {
      case "ES256" -> "SHA256withECDSAinP1363Format";
      case "ES384" -> "SHA384withECDSAinP1363Format";
      case "EdDSA" -> "Ed25519";
      case "PS256" -> "RSASSA-PSS";
      default -> "SHA256withRSA";
    };
  }

  /** Decodes base64url without padding. Each value has one form only. */
  static byte[] decode(String text) throws Malformed {
    try {
      byte[] data = Base64.getUrlDecoder().decode(text);
      if (ENCODER.encodeToString(data).equals(text)) {
        return data;
      }
    } catch (IllegalArgumentException error) {
      // The same error as below.
    }
    throw new Malformed("not base64url");
  }

  static JsonNode parseObject(byte[] data) throws Malformed {
    try {
      // Given bytes, Jackson would accept other encodings than UTF-8.
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(data)).toString();
      return object(JSON.readTree(text));
    } catch (CharacterCodingException | JacksonException error) {
      throw new Malformed("not a JSON object with unique members");
    }
  }

  static JsonNode object(JsonNode node) throws Malformed {
    if (node == null || !node.isObject()) {
      throw new Malformed("not a JSON object");
    }
    return node;
  }

  static String text(JsonNode object, String name) throws Malformed {
    JsonNode node = object.get(name);
    if (node == null || !node.isString()) {
      throw new Malformed(name + " is no text");
    }
    return node.stringValue();
  }

  static String sha256(byte[] data) {
    try {
      return ENCODER.encodeToString(MessageDigest.getInstance("SHA-256").digest(data));
    } catch (GeneralSecurityException error) {
      throw new IllegalStateException(error);
    }
  }

  /** RFC 9864 has a new name for Ed25519. */
  static String normal(String algorithm) {
    return algorithm.equals("Ed25519") ? "EdDSA" : algorithm;
  }

  /** Reads a key for this algorithm. It fails if the key is invalid, or for something else. */
  static Key parseKey(JsonNode jwk, String algorithm) throws Malformed {
    for (String name : PRIVATE_MEMBERS) {
      if (jwk.has(name)) {
        throw new Malformed("the key has private members");
      }
    }
    if ((jwk.has("use") && !text(jwk, "use").equals("sig"))
        || (jwk.has("alg") && !normal(text(jwk, "alg")).equals(algorithm))) {
      throw new Malformed("the key is for something else");
    }
    String kind = text(jwk, "kty") + (jwk.has("crv") ? " " + text(jwk, "crv") : "");
    try {
      return switch (algorithm + " " + kind) {
        case "ES256 EC P-256" -> ecKey(jwk, algorithm, 32);
        case "ES384 EC P-384" -> ecKey(jwk, algorithm, 48);
        case "EdDSA OKP Ed25519" -> ed25519Key(jwk);
        case "PS256 RSA", "RS256 RSA" -> rsaKey(jwk, algorithm);
        default -> throw new Malformed("the key is for another algorithm");
      };
    } catch (GeneralSecurityException error) {
      throw new Malformed("the key is invalid");
    }
  }

  /** Hashes these members, which are in lexical order (RFC 7638). */
  private static String thumbprint(JsonNode jwk, String... names) throws Malformed {
    var members = new StringBuilder("{");
    for (String name : names) {
      members.append(members.length() == 1 ? "" : ",");
      members.append('"').append(name).append("\":\"").append(text(jwk, name)).append('"');
    }
    return sha256(members.append('}').toString().getBytes(StandardCharsets.UTF_8));
  }

  private static Key ecKey(JsonNode jwk, String algorithm, int size)
      throws Malformed, GeneralSecurityException {
    byte[] x = decode(text(jwk, "x"));
    byte[] y = decode(text(jwk, "y"));
    if (x.length != size || y.length != size) {
      throw new Malformed("not a point of this curve");
    }
    byte[] info = joined(KEY_INFO.get(text(jwk, "crv")), x, y);
    var key = (ECPublicKey) KeyFactory.getInstance("EC").generatePublic(new X509EncodedKeySpec(info));
    if (!isOnCurve(key)) {
      throw new Malformed("not a point of this curve");
    }
    return new Key(algorithm, thumbprint(jwk, "crv", "kty", "x", "y"), key, 2 * size);
  }

  private static boolean isOnCurve(ECPublicKey key) {
    BigInteger p = ((ECFieldFp) key.getParams().getCurve().getField()).getP();
    BigInteger x = key.getW().getAffineX();
    BigInteger y = key.getW().getAffineY();
    var curve = key.getParams().getCurve();
    BigInteger right = x.pow(3).add(curve.getA().multiply(x)).add(curve.getB()).mod(p);
    return x.compareTo(p) < 0 && y.compareTo(p) < 0 && y.pow(2).mod(p).equals(right);
  }

  private static Key ed25519Key(JsonNode jwk) throws Malformed, GeneralSecurityException {
    byte[] x = decode(text(jwk, "x"));
    if (x.length != 32) {
      throw new Malformed("not an Ed25519 key");
    }
    var info = new X509EncodedKeySpec(joined(KEY_INFO.get("Ed25519"), x));
    PublicKey key = KeyFactory.getInstance("Ed25519").generatePublic(info);
    return new Key("EdDSA", thumbprint(jwk, "crv", "kty", "x"), key, 64);
  }

  private static Key rsaKey(JsonNode jwk, String algorithm)
      throws Malformed, GeneralSecurityException {
    var n = new BigInteger(1, decode(text(jwk, "n")));
    var e = new BigInteger(1, decode(text(jwk, "e")));
    if (n.bitLength() < 2048 || n.bitLength() > 8192 || e.bitLength() > 32) {
      throw new Malformed("the RSA key has another size");
    }
    PublicKey key = KeyFactory.getInstance("RSA").generatePublic(new RSAPublicKeySpec(n, e));
    return new Key(algorithm, thumbprint(jwk, "e", "kty", "n"), key, (n.bitLength() + 7) / 8);
  }

  private static byte[] joined(byte[]... parts) {
    int length = Arrays.stream(parts).mapToInt(part -> part.length).sum();
    ByteBuffer all = ByteBuffer.allocate(length);
    for (byte[] part : parts) {
      all.put(part);
    }
    return all.array();
  }
}
