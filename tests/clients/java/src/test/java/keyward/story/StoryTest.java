package keyward.story;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.gen.ECKeyGenerator;
import io.grpc.Channel;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import keyward.access.v1.AccessServiceGrpc;
import keyward.access.v1.CheckAccessRequest;
import keyward.access.v1.CheckAccessResponse;
import keyward.access.v1.RequiredScopes;
import keyward.access.v1.RevocationServiceGrpc;
import keyward.access.v1.WatchRevocationsRequest;
import keyward.admin.v1.Application;
import keyward.admin.v1.ApplicationServiceGrpc;
import keyward.admin.v1.CreateApplicationRequest;
import keyward.admin.v1.CreateCredentialRequest;
import keyward.admin.v1.CreateCredentialResponse;
import keyward.admin.v1.Credential;
import keyward.admin.v1.CredentialServiceGrpc;
import keyward.admin.v1.Limits;
import keyward.fixture.Fixture;
import keyward.token.v1.ClientSecret;
import keyward.token.v1.IntrospectTokenRequest;
import keyward.token.v1.IssueTokenRequest;
import keyward.token.v1.RevokeTokenRequest;
import keyward.token.v1.TokenServiceGrpc;
import org.junit.jupiter.api.Test;
import org.springframework.security.oauth2.client.endpoint.NimbusJwtClientAuthenticationParametersConverter;
import org.springframework.security.oauth2.client.endpoint.OAuth2ClientCredentialsGrantRequest;
import org.springframework.security.oauth2.client.endpoint.RestClientClientCredentialsTokenResponseClient;
import org.springframework.security.oauth2.client.registration.ClientRegistration;
import org.springframework.security.oauth2.client.registration.ClientRegistrations;
import org.springframework.security.oauth2.core.AuthorizationGrantType;
import org.springframework.security.oauth2.core.ClientAuthenticationMethod;

/**
 * A client in Java from its first call to its last: a console acts for a user, an integration gets tokens, a service
 * checks them. The same story is written in Go, Python and TypeScript.
 */
class StoryTest {
  private static final Fixture.Server SERVER = Fixture.read().plain();

  @Test
  void story() throws Exception {
    ManagedChannel channel = connect();
    try {
      tell(channel);
    } finally {
      channel.shutdownNow();
    }
  }

  private static void tell(ManagedChannel channel) throws Exception {
    // The console acts for a user, who creates an application with a limit, a secret and a key.
    ClientInterceptor user = header("keyward-user", SERVER.user());
    var console = List.of(authorized(channel, SERVER.console()), user);
    String application = createApplication(channel, console);
    var bySecret = Credential.newBuilder().setKind(Credential.Kind.KIND_CLIENT_SECRET);
    var secret = createCredential(channel, console, application, bySecret);
    ECKey key = new ECKeyGenerator(Curve.P_256).keyIDFromThumbprint(true).generate();
    String jwks = new JWKSet(key.toPublicJWK()).toString();
    var byKey =
        Credential.newBuilder()
            .setKind(Credential.Kind.KIND_PUBLIC_KEY)
            .setPublicKey(Credential.PublicKey.newBuilder().setJwks(jwks));
    var withKey = createCredential(channel, console, application, byKey);

    // The integration knows the issuer. It gets a token with the secret, and another one with the key.
    String one = tokenBySecret(secret);
    String two = tokenByKey(withKey.getCredential().getClientId(), key);

    // A service asks about each request, until the limit of the application is reached.
    ClientInterceptor service = authorized(channel, SERVER.verifier());
    Duration wait = checkUntilLimited(channel, service, application, List.of(one, two, one, two));
    // The window is a minute, which may pass in steps.
    assertTrue(wait.toSeconds() > 30 && wait.toSeconds() < 90, wait::toString);

    readErrors(channel, console);
    followRevocation(channel, service, one);
  }

  /** A channel with a deadline and retries for each call, by the service config of the repository. */
  private static ManagedChannel connect() throws Exception {
    Path protos = Path.of(System.getenv("KEYWARD_PROTOS"));
    String text = Files.readString(protos.resolve("keyward_grpc_service_config.json"));
    @SuppressWarnings("unchecked") // As grpc-java wants it: maps, lists, and numbers as Double.
    Map<String, ?> config = new Gson().fromJson(text, Map.class);
    return Grpc.newChannelBuilder(SERVER.grpc(), InsecureChannelCredentials.create())
        .defaultServiceConfig(config)
        .build();
  }

  private static ClientInterceptor header(String name, String value) {
    var headers = new Metadata();
    headers.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
    return MetadataUtils.newAttachHeadersInterceptor(headers);
  }

  /** Sends the token of a client for Keyward itself. */
  private static ClientInterceptor authorized(Channel channel, Fixture.Secret client) {
    var secret =
        ClientSecret.newBuilder()
            .setClientId(client.clientId())
            .setClientSecret(client.clientSecret());
    var request = IssueTokenRequest.newBuilder().setClientSecret(secret).addAudiences("keyward");
    var issued = TokenServiceGrpc.newBlockingStub(channel).issueToken(request.build());
    return header("authorization", "Bearer " + issued.getAccessToken());
  }

  private static String createApplication(Channel channel, List<ClientInterceptor> console) {
    var wanted =
        Application.newBuilder()
            .setDisplayName("Story in Java")
            .addScopes(SERVER.scopes().get(0))
            .setLimits(Limits.newBuilder().setRequests(3));
    var request =
        CreateApplicationRequest.newBuilder().setParent(SERVER.tenant()).setApplication(wanted);
    var created =
        ApplicationServiceGrpc.newBlockingStub(channel)
            .withInterceptors(console.toArray(ClientInterceptor[]::new))
            .createApplication(request.build())
            .getApplication();
    assertEquals(SERVER.user(), created.getOwner());
    return created.getName();
  }

  private static CreateCredentialResponse createCredential(
      Channel channel,
      List<ClientInterceptor> console,
      String application,
      Credential.Builder credential) {
    return CredentialServiceGrpc.newBlockingStub(channel)
        .withInterceptors(console.toArray(ClientInterceptor[]::new))
        .createCredential(
            CreateCredentialRequest.newBuilder()
                .setParent(application)
                .setCredential(credential)
                .build());
  }

  private static ClientRegistration.Builder discover(String clientId) {
    return ClientRegistrations.fromIssuerLocation(SERVER.issuer())
        .authorizationGrantType(AuthorizationGrantType.CLIENT_CREDENTIALS)
        .clientId(clientId);
  }

  private static String grant(
      RestClientClientCredentialsTokenResponseClient client, ClientRegistration registration) {
    var request = new OAuth2ClientCredentialsGrantRequest(registration);
    return client.getTokenResponse(request).getAccessToken().getTokenValue();
  }

  private static String tokenBySecret(CreateCredentialResponse made) {
    var registration =
        discover(made.getCredential().getClientId()).clientSecret(made.getSecret()).build();
    return grant(new RestClientClientCredentialsTokenResponseClient(), registration);
  }

  private static String tokenByKey(String clientId, ECKey key) {
    var registration =
        discover(clientId).clientAuthenticationMethod(ClientAuthenticationMethod.PRIVATE_KEY_JWT);
    var assertion =
        new NimbusJwtClientAuthenticationParametersConverter<OAuth2ClientCredentialsGrantRequest>(
            any -> key);
    // By default the audience is the token endpoint, which the update of RFC 7523 rules out.
    assertion.setJwtClientAssertionCustomizer(
        context -> context.getClaims().audience(List.of(SERVER.issuer())));
    var client = new RestClientClientCredentialsTokenResponseClient();
    client.addParametersConverter(assertion);
    return grant(client, registration.build());
  }

  /** Returns how long to wait before the next request. */
  private static Duration checkUntilLimited(
      Channel channel, ClientInterceptor service, String application, List<String> tokens) {
    var access = AccessServiceGrpc.newBlockingStub(channel).withInterceptors(service);
    for (int request = 0; request < tokens.size(); request++) {
      var question =
          CheckAccessRequest.newBuilder()
              .setToken(tokens.get(request))
              .setScopes(RequiredScopes.newBuilder().addAllOf("calls.read"));
      CheckAccessResponse answer = access.checkAccess(question.build());
      assertEquals(application, answer.getPrincipal().getApplication());
      assertEquals(request < 3, answer.getAllowed(), answer::toString);
      if (answer.getOutcome() == CheckAccessResponse.Outcome.OUTCOME_RATE_LIMITED) {
        var wait = answer.getRetryAfter();
        return Duration.ofSeconds(wait.getSeconds(), wait.getNanos());
      }
    }
    return fail("there was no limit");
  }

  /** Reads the reason of an error, and the wrong fields. */
  private static void readErrors(Channel channel, List<ClientInterceptor> console)
      throws Exception {
    var headers = new AtomicReference<Metadata>();
    var trailers = new AtomicReference<Metadata>();
    var stub =
        ApplicationServiceGrpc.newBlockingStub(channel)
            .withInterceptors(console.toArray(ClientInterceptor[]::new))
            .withInterceptors(MetadataUtils.newCaptureMetadataInterceptor(headers, trailers));
    var wrong = Application.newBuilder().addScopes("no scope").setContactEmail("no address");
    var request =
        CreateApplicationRequest.newBuilder().setParent(SERVER.tenant()).setApplication(wrong);
    var error =
        assertThrows(
            StatusRuntimeException.class, () -> stub.createApplication(request.build()));
    // With headers of its own, an error would not be retried (gRFC A6).
    assertEquals(null, headers.get());
    Set<String> fields = new HashSet<>();
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        assertEquals("INVALID_FIELD", detail.unpack(ErrorInfo.class).getReason());
      } else if (detail.is(BadRequest.class)) {
        var violations = detail.unpack(BadRequest.class).getFieldViolationsList();
        violations.forEach(violation -> fields.add(violation.getField()));
      }
    }
    assertTrue(
        fields.containsAll(Set.of("application.display_name", "application.contact_email")),
        fields::toString);
  }

  /** Revokes a token, and waits until the feed has it. */
  private static void followRevocation(Channel channel, ClientInterceptor service, String token) {
    var tokens = TokenServiceGrpc.newBlockingStub(channel);
    var question = IntrospectTokenRequest.newBuilder().setToken(token).build();
    var known = tokens.withInterceptors(service).introspectToken(question);
    assertTrue(known.getActive());
    var feed =
        RevocationServiceGrpc.newBlockingStub(channel)
            .withInterceptors(service)
            .watchRevocations(WatchRevocationsRequest.getDefaultInstance());
    var revoke = RevokeTokenRequest.newBuilder().setToken(token).build();
    var admin = authorized(channel, SERVER.admin());
    assertTrue(tokens.withInterceptors(admin).revokeToken(revoke).getRevoked());
    while (feed.hasNext()) {
      var entries = feed.next().getRevocationsList();
      if (entries.stream().anyMatch(entry -> entry.getTokenId().equals(known.getTokenId()))) {
        return;
      }
    }
    fail("the feed ended");
  }
}
