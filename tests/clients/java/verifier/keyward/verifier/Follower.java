package keyward.verifier;

import io.grpc.CallCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import keyward.access.v1.KeyServiceGrpc;
import keyward.access.v1.RevocationServiceGrpc;
import keyward.access.v1.WatchJwksRequest;
import keyward.access.v1.WatchJwksResponse;
import keyward.access.v1.WatchRevocationsRequest;
import keyward.access.v1.WatchRevocationsResponse;
import keyward.token.v1.ClientSecret;
import keyward.token.v1.IssueTokenRequest;
import keyward.token.v1.IssueTokenResponse;
import keyward.token.v1.TokenServiceGrpc;

/**
 * Follows keys and revocations over gRPC. One session is one connection with both streams. It ends when one of them
 * does, after a silence, and before its access token expires; the next one continues from the cursor.
 */
final class Follower implements Runnable {
  private static final System.Logger LOG = System.getLogger(Follower.class.getName());
  private static final long CALL_SECONDS = 5;

  /** The server sends a message each second. */
  private static final Duration SILENCE = Duration.ofSeconds(3);

  private static final long MAX_PAUSE_MILLIS = 2000;
  private static final Duration FORGET_EACH = Duration.ofMinutes(1);
  private static final Object END = new Object();

  private final Server server;
  private final Verifier verifier;

  /** The wall clock at the start. Setting the clock ahead must not remove revocations. */
  private final Instant started;

  private Duration forgot = Duration.ZERO;
  private String trouble = "";

  Follower(Server server, Verifier verifier) {
    this.server = server;
    this.verifier = verifier;
    this.started = Instant.now().minus(verifier.monotonic());
  }

  /** Follows until the thread is interrupted. */
  @Override
  public void run() {
    try {
      long pause = 50;
      while (true) {
        Duration began = verifier.monotonic();
        try {
          session();
          continue;
        } catch (StatusRuntimeException error) {
          // OUT_OF_RANGE: CURSOR_TOO_OLD. INVALID_ARGUMENT: the cursor is of something else.
          Status.Code code = error.getStatus().getCode();
          if (code == Status.Code.OUT_OF_RANGE || code == Status.Code.INVALID_ARGUMENT) {
            verifier.feed.lose();
          }
          note(code.name(), error.getStatus().toString());
        } catch (Feed.FeedException error) {
          verifier.feed.lose();
          note("FEED", error.getMessage());
        } catch (Jose.Malformed error) {
          note("KEYS", error.getMessage());
        }
        if (verifier.monotonic().minus(began).toSeconds() > 10) {
          pause = 50;
        }
        Thread.sleep(ThreadLocalRandom.current().nextLong(pause / 2, pause));
        pause = Math.min(2 * pause, MAX_PAUSE_MILLIS);
      }
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
    }
  }

  /** Logs that revocations are not followed, when it starts and when the cause changes. */
  private void note(String kind, String cause) {
    if (!kind.equals(trouble)) {
      LOG.log(System.Logger.Level.WARNING, "revocations are not followed: " + cause);
    }
    trouble = kind;
  }

  /** Returns when the access token should be renewed. */
  private void session() throws InterruptedException, Feed.FeedException, Jose.Malformed {
    // A channel of its own, so that each session may reach another server behind the name.
    ManagedChannel channel = Grpc.newChannelBuilder(server.target(), server.tls()).build();
    try {
      Duration asked = verifier.monotonic();
      IssueTokenResponse token = token(channel);
      Duration renewAt = asked.plusSeconds(token.getExpiresIn().getSeconds() * 4 / 5);
      var authorization = new Bearer(token.getAccessToken());
      verifier.feed.begin();
      BlockingQueue<Object> messages = new LinkedBlockingQueue<>();
      asked = verifier.monotonic();
      RevocationServiceGrpc.newStub(channel)
          .withCallCredentials(authorization)
          .watchRevocations(
              WatchRevocationsRequest.newBuilder().setCursor(verifier.feed.cursor()).build(),
              into(messages));
      KeyServiceGrpc.newStub(channel)
          .withCallCredentials(authorization)
          .watchJwks(WatchJwksRequest.getDefaultInstance(), into(messages));
      follow(messages, asked, renewAt);
    } finally {
      channel.shutdownNow();
    }
  }

  private IssueTokenResponse token(ManagedChannel channel) {
    var secret =
        ClientSecret.newBuilder()
            .setClientId(server.clientId())
            .setClientSecret(server.clientSecret());
    var request =
        IssueTokenRequest.newBuilder()
            .setClientSecret(secret)
            .addScopes("keyward.verify")
            .addAudiences("keyward");
    return TokenServiceGrpc.newBlockingStub(channel)
        .withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS)
        .issueToken(request.build());
  }

  private void follow(BlockingQueue<Object> messages, Duration asked, Duration renewAt)
      throws InterruptedException, Feed.FeedException, Jose.Malformed {
    // The first message is not older than its request, and no other is older than its arrival.
    Duration received = asked;
    boolean isFirst = true;
    boolean hasKeys = false;
    for (Duration now = asked; now.compareTo(renewAt) < 0; now = verifier.monotonic()) {
      long wait = received.plus(SILENCE).minus(now).toMillis();
      Object message = messages.poll(Math.max(0, wait), TimeUnit.MILLISECONDS);
      now = verifier.monotonic();
      if (message == null) {
        throw away("the server sends no messages");
      }
      if (now.minus(received).compareTo(SILENCE) > 0) {
        // This process may have been suspended, and the message is as old as the pause.
        throw away("the stream was not read for a while");
      }
      if (message instanceof WatchJwksResponse keys) {
        verifier.takeKeys(keys.getJwks().getBytes(StandardCharsets.UTF_8));
        hasKeys = true;
      } else if (message instanceof WatchRevocationsResponse entries) {
        verifier.feed.take(entries, isFirst ? asked : now);
        received = now;
        isFirst = false;
        trouble = "";
        forget(now);
      } else if (message instanceof Throwable error) {
        throw new StatusRuntimeException(Status.fromThrowable(error));
      } else {
        throw away("the server ended a stream");
      }
      if (!hasKeys && now.minus(asked).compareTo(SILENCE) > 0) {
        throw away("the server sends no keys");
      }
      verifier.noteProgress();
    }
  }

  private void forget(Duration now) {
    if (now.compareTo(forgot.plus(FORGET_EACH)) > 0) {
      verifier.feed.forget(started.plus(now));
      forgot = now;
    }
  }

  private static StatusRuntimeException away(String what) {
    return Status.UNAVAILABLE.withDescription(what).asRuntimeException();
  }

  /** Puts the messages of a stream into a queue, and then the error, or {@link #END}. */
  private static <T> StreamObserver<T> into(BlockingQueue<Object> messages) {
    return new StreamObserver<>() {
      @Override
      public void onNext(T message) {
        messages.add(message);
      }

      @Override
      public void onError(Throwable error) {
        messages.add(error);
      }

      @Override
      public void onCompleted() {
        messages.add(END);
      }
    };
  }

  private static final class Bearer extends CallCredentials {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final String token;

    Bearer(String token) {
      this.token = token;
    }

    @Override
    public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
      var headers = new Metadata();
      headers.put(AUTHORIZATION, "Bearer " + token);
      applier.apply(headers);
    }
  }
}
