package keyward.verifier;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicContainer.dynamicContainer;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import com.google.protobuf.Timestamp;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.stream.Stream;
import keyward.access.v1.Revocation;
import keyward.access.v1.WatchRevocationsResponse;
import keyward.verifier.Sender.DpopProof;
import org.junit.jupiter.api.DynamicNode;
import org.junit.jupiter.api.TestFactory;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/** The offline verifier with the vectors of tests/vectors. */
class VectorsTest {
  private static final Path FOLDER = Path.of(System.getenv("KEYWARD_VECTORS"));

  private static JsonNode load(String name) {
    return JsonMapper.shared().readTree(FOLDER.resolve(name + ".json").toFile());
  }

  private static Verifier prepared() throws Exception {
    JsonNode context = load("context");
    var clock = Clock.fixed(Instant.ofEpochSecond(context.get("now").longValue()), ZoneOffset.UTC);
    var verifier =
        new Verifier(
            new Verifier.Settings(
                context.get("issuer").stringValue(),
                context.get("audience").stringValue(),
                Duration.ofHours(1),
                "kwk",
                clock));
    verifier.takeKeys(context.get("jwks").toString().getBytes(StandardCharsets.UTF_8));
    var entries = WatchRevocationsResponse.newBuilder().setSnapshot(true);
    context.get("revocations").forEach(entry -> entries.addRevocations(revocation(entry)));
    verifier.feed.take(entries.build(), Duration.ZERO);
    var end = WatchRevocationsResponse.newBuilder().setCursor("c");
    end.getStalenessBuilder();
    verifier.feed.take(end.build(), Duration.ZERO);
    return verifier;
  }

  private static Revocation revocation(JsonNode entry) {
    var made =
        Revocation.newBuilder()
            .setNumber(entry.get("number").longValue())
            .setEpoch(entry.get("epoch").longValue());
    if (entry.has("expire_time")) {
      made.setExpireTime(Timestamp.newBuilder().setSeconds(entry.get("expire_time").longValue()));
    }
    for (String kind : List.of("token_id", "client_id", "subject", "tenant", "key_id")) {
      if (entry.has(kind)) {
        made.setField(
            Revocation.getDescriptor().findFieldByName(kind), entry.get(kind).stringValue());
      }
    }
    return made.build();
  }

  @TestFactory
  Stream<DynamicNode> vectors() throws Exception {
    Verifier verifier = prepared();
    return Stream.of("good", "expired", "revoked", "forged", "bound")
        .map(
            name -> {
              var tests = new ArrayList<DynamicNode>();
              for (JsonNode vector : load(name).get("vectors")) {
                String title = vector.get("name").stringValue();
                tests.add(dynamicTest(title, () -> check(verifier, vector)));
              }
              assertFalse(tests.isEmpty());
              return dynamicContainer(name, tests);
            });
  }

  private static void check(Verifier verifier, JsonNode vector) {
    boolean isValid = vector.get("valid").booleanValue();
    Verified token;
    try {
      token = verifier.verify(vector.get("token").stringValue(), sender(vector));
    } catch (Refused refused) {
      assertFalse(isValid, refused::getMessage);
      var reasons = vector.get("reasons").valueStream().map(JsonNode::stringValue).toList();
      assertTrue(reasons.contains(refused.reason().code()), refused + ", and not " + reasons);
      return;
    }
    assertTrue(isValid, () -> "accepted, and not refused with " + vector.get("reasons"));
    JsonNode claims = vector.get("claims");
    assertEquals(claims.get("tenant").stringValue(), token.tenant());
    assertEquals(claims.get("application").stringValue(), token.application());
    assertEquals(claims.get("client_id").stringValue(), token.clientId());
    assertEquals(claims.get("token_id").stringValue(), token.tokenId());
    assertEquals(claims.get("expires_at").longValue(), token.expiresAt().getEpochSecond());
    assertEquals(texts(claims.get("scopes")), token.scopes());
    assertEquals(texts(claims.get("roles")), token.roles());
  }

  private static List<String> texts(JsonNode array) {
    return array.valueStream().map(JsonNode::stringValue).toList();
  }

  private static Sender sender(JsonNode vector) {
    byte[] certificate = null;
    if (vector.has("certificate")) {
      certificate = Base64.getDecoder().decode(vector.get("certificate").stringValue());
    }
    DpopProof proof = null;
    if (vector.has("dpop")) {
      JsonNode dpop = vector.get("dpop");
      proof =
          new DpopProof(
              dpop.get("proof").stringValue(),
              dpop.get("method").stringValue(),
              dpop.get("url").stringValue());
    }
    return new Sender(certificate, proof);
  }

  @TestFactory
  Stream<DynamicNode> stories() {
    return load("feed")
        .get("stories")
        .valueStream()
        .map(story -> dynamicTest(story.get("name").stringValue(), () -> tell(story)));
  }

  private static void tell(JsonNode story) throws Exception {
    var feed = new Feed();
    for (JsonNode step : story.get("steps")) {
      play(feed, step);
    }
  }

  private static void play(Feed feed, JsonNode step) throws Exception {
    var sent = Duration.ofSeconds(step.path("sent").longValue(0));
    switch (step.get("step").stringValue()) {
      case "begin" -> feed.begin();
      case "lose" -> feed.lose();
      case "message" -> {
        feed.take(message(step.get("message")), sent);
        feed.forget(Instant.ofEpochSecond(step.get("now").longValue()));
      }
      case "refused_message" ->
          assertThrows(
              Feed.FeedException.class, () -> feed.take(message(step.get("message")), sent));
      case "expect" -> {
        for (String tenant : texts(step.get("revoked"))) {
          assertTrue(feed.isBelow("tenant", tenant, 0), tenant);
        }
        for (String tenant : texts(step.get("not_revoked"))) {
          assertFalse(feed.isBelow("tenant", tenant, 0), tenant);
        }
        assertEquals(step.get("cursor").stringValue(), feed.cursor());
        JsonNode complete = step.get("complete_as_of");
        assertEquals(
            complete.isNull() ? null : Duration.ofSeconds(complete.longValue()), feed.confirmed());
      }
      default -> throw new IllegalArgumentException(step.toString());
    }
  }

  private static WatchRevocationsResponse message(JsonNode content) {
    var made =
        WatchRevocationsResponse.newBuilder()
            .setCursor(content.get("cursor").stringValue())
            .setSnapshot(content.get("snapshot").booleanValue());
    if (content.has("staleness")) {
      made.getStalenessBuilder().setSeconds(content.get("staleness").longValue());
    }
    content.get("revocations").forEach(entry -> made.addRevocations(revocation(entry)));
    return made.build();
  }
}
