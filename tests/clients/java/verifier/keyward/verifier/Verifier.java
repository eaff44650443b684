package keyward.verifier;

import java.time.Clock;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import keyward.verifier.Refused.Reason;

/**
 * Verifies access tokens without a call for each. Until it follows a server, and while its data is older than {@code
 * maxLag}, good tokens are refused with {@code NOT_READY} or {@code FEED_LOST}.
 */
public final class Verifier implements AutoCloseable {
  /**
   * The settings of a verifier.
   *
   * @param maxLag the maximum age of the revocation data: 2 s at least
   * @param apiKeyPrefix {@code kwk}, unless the server has another setting
   */
  public record Settings(
      String issuer, String audience, Duration maxLag, String apiKeyPrefix, Clock clock) {
    public Settings {
      if (maxLag.compareTo(Duration.ofSeconds(2)) < 0) {
        throw new IllegalArgumentException("maxLag must be at least 2 s");
      }
    }

    public Settings(String issuer, String audience) {
      this(issuer, audience, Duration.ofSeconds(5), "kwk", Clock.systemUTC());
    }
  }

  final Feed feed = new Feed();
  private final Settings settings;
  private final long started = System.nanoTime();
  private final CountDownLatch ready = new CountDownLatch(1);
  private volatile Map<String, Jose.Key> keys = Map.of();
  private Thread following;

  public Verifier(Settings settings) {
    this.settings = settings;
  }

  /** Connects, and waits until keys and revocations are read. */
  public void follow(Server server, Duration readyWithin)
      throws InterruptedException, TimeoutException {
    following = new Thread(new Follower(server, this), "keyward-verifier");
    following.setDaemon(true);
    following.start();
    if (!ready.await(readyWithin.toMillis(), TimeUnit.MILLISECONDS)) {
      throw new TimeoutException("the verifier was not ready within " + readyWithin);
    }
  }

  @Override
  public void close() {
    if (following != null) {
      following.interrupt();
    }
  }

  /** The time since the verifier was made, on a clock that is never set. */
  Duration monotonic() {
    return Duration.ofNanos(System.nanoTime() - started);
  }

  /** Replaces the key set as a whole. */
  void takeKeys(byte[] jwks) throws Jose.Malformed {
    keys = Tokens.parseKeys(jwks);
  }

  void noteProgress() {
    if (!keys.isEmpty() && feed.confirmed() != null) {
      ready.countDown();
    }
  }

  /** The age of the revocation data. Empty until it was read once. */
  public Optional<Duration> lag() {
    return Optional.ofNullable(feed.confirmed()).map(monotonic()::minus);
  }

  /** Verifies a token. A token that is bound to a key or a certificate is refused. */
  public Verified verify(String token) throws Refused {
    return verify(token, Sender.BEARER);
  }

  /** Verifies a token, and that the sender has what it is bound to. */
  public Verified verify(String token, Sender sender) throws Refused {
    if (token.startsWith(settings.apiKeyPrefix + "_")) {
      // Only Keyward can verify it: call AccessService.CheckAccess.
      throw new Refused(Reason.API_KEY);
    }
    var known = keys;
    if (known.isEmpty()) {
      throw new Refused(Reason.NOT_READY);
    }
    var now = settings.clock.instant();
    Verified verified;
    try {
      verified = Tokens.read(token, known, settings.issuer, now);
    } catch (Refused refused) {
      // The key may have been published since.
      boolean isLost = refused.reason() == Reason.UNKNOWN_KEY && lag().filter(this::isLost).isPresent();
      throw isLost ? new Refused(Reason.FEED_LOST) : refused;
    }
    if (!verified.audiences().contains(settings.audience)) {
      throw new Refused(Reason.WRONG_AUDIENCE);
    }
    Proofs.require(verified.bound(), token, sender, now);
    requireUnrevoked(verified);
    return verified;
  }

  /** Checks expiry and revocation of a verified token again, for long requests such as streams. */
  public void recheck(Verified token) throws Refused {
    Tokens.checkTime(token, settings.clock.instant());
    if (!keys.containsKey(token.keyId())) {
      throw new Refused(Reason.UNKNOWN_KEY);
    }
    requireUnrevoked(token);
  }

  private void requireUnrevoked(Verified token) throws Refused {
    // Read before the list, so that the list is at least as recent.
    Optional<Duration> lag = lag();
    if (feed.revokes(token)) {
      throw new Refused(Reason.REVOKED);
    }
    if (lag.isEmpty()) {
      throw new Refused(Reason.NOT_READY);
    }
    if (isLost(lag.get())) {
      throw new Refused(Reason.FEED_LOST, "revocations of the last " + lag.get() + " are unknown: retry");
    }
  }

  private boolean isLost(Duration lag) {
    return lag.compareTo(settings.maxLag) > 0;
  }
}
