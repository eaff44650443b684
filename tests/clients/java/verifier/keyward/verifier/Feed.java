package keyward.verifier;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import keyward.access.v1.WatchRevocationsResponse;

/**
 * The list of revocations, and how the messages of {@code WatchRevocations} change it. A snapshot takes effect when it
 * is complete, and removes nothing. One thread writes; all threads read.
 */
final class Feed {
  /** An entry is kept for an hour after its end: servers and clocks can be behind. */
  private static final Duration MARGIN = Duration.ofHours(1);

  /** What an entry revokes, by the claim of a token. */
  record Subject(String claim, String name) {}

  /** Tokens with a lower epoch are revoked. 0 for a single token or a key. */
  private record InForce(long epoch, Instant end) {
    InForce and(InForce other) {
      return new InForce(Math.max(epoch, other.epoch), end.isAfter(other.end) ? end : other.end);
    }
  }

  private record Entry(long number, Subject subject, InForce inForce) {}

  /** A message that cannot be followed. It is never skipped: the list would have a gap. */
  static final class FeedException extends Exception {
    FeedException(String message) {
      super(message);
    }
  }

  /** Entries with the same subject are one, with the higher epoch. */
  private final Map<Subject, InForce> inForce = new ConcurrentHashMap<>();

  private volatile String cursor = "";

  /** The time as of which the list is complete, on the monotonic clock. Null: it was never read. */
  private volatile Duration confirmed;

  private List<Entry> snapshot;

  /** The number of the last entry. 0: entries can be missing before the next one. */
  private long last;

  String cursor() {
    return cursor;
  }

  Duration confirmed() {
    return confirmed;
  }

  /** A new stream: an incomplete snapshot is discarded. */
  void begin() {
    snapshot = null;
  }

  /** The next stream starts with a snapshot. What is in force stays in force. */
  void lose() {
    cursor = "";
  }

  /** Applies a message that was sent at {@code sent}, on the monotonic clock, or later. */
  void take(WatchRevocationsResponse message, Duration sent) throws FeedException {
    var entries = new ArrayList<Entry>();
    for (var entry : message.getRevocationsList()) {
      entries.add(read(entry));
    }
    if (message.getSnapshot()) {
      snapshot = snapshot == null ? new ArrayList<>() : snapshot;
      snapshot.addAll(entries);
      return;
    }
    if (snapshot != null) {
      add(snapshot);
      // Another server can know less than the one before.
      snapshot = null;
      last = 0;
      confirmed = null;
    } else if (cursor.isEmpty()) {
      throw new FeedException("the first message is not a snapshot");
    }
    long reached = last;
    for (Entry entry : entries) {
      if (reached != 0 && entry.number > reached + 1) {
        throw new FeedException("entry " + entry.number + " does not continue entry " + reached);
      }
      reached = Math.max(reached, entry.number);
    }
    add(entries);
    last = reached;
    cursor = message.getCursor();
    // Unset if more messages follow at once: such a message confirms nothing.
    if (message.hasStaleness()) {
      var staleness = message.getStaleness();
      var age = Duration.ofSeconds(staleness.getSeconds(), staleness.getNanos());
      Duration complete = sent.minus(age);
      confirmed = confirmed != null && confirmed.compareTo(complete) > 0 ? confirmed : complete;
    }
  }

  private void add(List<Entry> entries) {
    for (Entry entry : entries) {
      inForce.merge(entry.subject, entry.inForce, InForce::and);
    }
  }

  void forget(Instant now) {
    inForce.values().removeIf(entry -> !entry.end.plus(MARGIN).isAfter(now));
  }

  /** Whether the token, or one of those that it rests on, is revoked. */
  boolean revokes(Verified token) {
    for (var parent : token.parents()) {
      var epochs = parent.epochs();
      if (isBelow("tenant", token.tenant(), epochs.tenant())
          || isBelow("subject", parent.subject(), epochs.application())
          || isBelow("client_id", parent.clientId(), epochs.credential())
          || inForce.containsKey(new Subject("token_id", parent.tokenId()))
          || inForce.containsKey(new Subject("key_id", parent.keyId()))) {
        return true;
      }
    }
    return false;
  }

  /** Whether tokens with this epoch of a tenant, subject or client are revoked. */
  boolean isBelow(String claim, String name, long epoch) {
    InForce raised = inForce.get(new Subject(claim, name));
    return raised != null && epoch < raised.epoch;
  }

  private static Entry read(keyward.access.v1.Revocation message) throws FeedException {
    Subject subject =
        switch (message.getRevokedCase()) {
          case TOKEN_ID -> new Subject("token_id", message.getTokenId());
          case CLIENT_ID -> new Subject("client_id", message.getClientId());
          case SUBJECT -> new Subject("subject", message.getSubject());
          case TENANT -> new Subject("tenant", message.getTenant());
          case KEY_ID -> new Subject("key_id", message.getKeyId());
          case REVOKED_NOT_SET -> null;
        };
    if (subject == null || message.getNumber() < 1 || !message.hasExpireTime()) {
      // A newer server revokes something that this version cannot represent.
      throw new FeedException("revocation " + message.getNumber() + " is of an unknown kind");
    }
    var end = Instant.ofEpochSecond(message.getExpireTime().getSeconds());
    return new Entry(message.getNumber(), subject, new InForce(message.getEpoch(), end));
  }
}
