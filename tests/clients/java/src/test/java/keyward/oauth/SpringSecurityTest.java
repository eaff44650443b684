package keyward.oauth;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.Curve;
import com.nimbusds.jose.jwk.ECKey;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.RSAKey;
import java.net.http.HttpClient;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.security.interfaces.ECPublicKey;
import java.security.interfaces.RSAPublicKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import javax.net.ssl.HttpsURLConnection;
import keyward.fixture.Fixture;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.springframework.boot.http.client.ClientHttpRequestFactoryBuilder;
import org.springframework.boot.http.client.HttpClientSettings;
import org.springframework.boot.ssl.SslBundle;
import org.springframework.boot.ssl.pem.PemSslStoreBundle;
import org.springframework.boot.ssl.pem.PemSslStoreDetails;
import org.springframework.http.client.ClientHttpRequestFactory;
import org.springframework.http.client.JdkClientHttpRequestFactory;
import org.springframework.http.converter.FormHttpMessageConverter;
import org.springframework.security.oauth2.client.endpoint.DefaultOAuth2TokenRequestParametersConverter;
import org.springframework.security.oauth2.client.endpoint.NimbusJwtClientAuthenticationParametersConverter;
import org.springframework.security.oauth2.client.endpoint.OAuth2ClientCredentialsGrantRequest;
import org.springframework.security.oauth2.client.endpoint.RestClientClientCredentialsTokenResponseClient;
import org.springframework.security.oauth2.client.http.OAuth2ErrorResponseErrorHandler;
import org.springframework.security.oauth2.client.registration.ClientRegistration;
import org.springframework.security.oauth2.client.registration.ClientRegistrations;
import org.springframework.security.oauth2.core.AuthorizationGrantType;
import org.springframework.security.oauth2.core.ClientAuthenticationMethod;
import org.springframework.security.oauth2.core.OAuth2AccessToken;
import org.springframework.security.oauth2.core.OAuth2AuthorizationException;
import org.springframework.security.oauth2.core.endpoint.OAuth2AccessTokenResponse;
import org.springframework.security.oauth2.core.http.converter.OAuth2AccessTokenResponseHttpMessageConverter;
import org.springframework.security.oauth2.jose.jws.SignatureAlgorithm;
import org.springframework.security.oauth2.jwt.Jwt;
import org.springframework.security.oauth2.jwt.JwtClaimValidator;
import org.springframework.security.oauth2.jwt.JwtValidators;
import org.springframework.security.oauth2.jwt.NimbusJwtDecoder;
import org.springframework.web.client.HttpClientErrorException;
import org.springframework.web.client.RestClient;
import org.springframework.web.client.RestTemplate;
import tools.jackson.databind.json.JsonMapper;

/** Spring Security's client credentials, configured with the issuer alone. */
class SpringSecurityTest {
  private static final Fixture FIXTURE = Fixture.read();
  private static final Fixture.Server PLAIN = FIXTURE.plain();

  private static ClientRegistration.Builder discover(Fixture.Server server, String clientId) {
    return ClientRegistrations.fromIssuerLocation(server.issuer())
        .authorizationGrantType(AuthorizationGrantType.CLIENT_CREDENTIALS)
        .clientId(clientId);
  }

  private static ClientRegistration withSecret(ClientAuthenticationMethod method, String secret) {
    return discover(PLAIN, PLAIN.secret().clientId())
        .clientSecret(secret)
        .clientAuthenticationMethod(method)
        .build();
  }

  private static OAuth2AccessTokenResponse grant(
      RestClientClientCredentialsTokenResponseClient client, ClientRegistration registration) {
    return client.getTokenResponse(new OAuth2ClientCredentialsGrantRequest(registration));
  }

  @ParameterizedTest
  @ValueSource(strings = {"client_secret_basic", "client_secret_post"})
  void secretGetsAToken(String method) {
    var registration =
        withSecret(new ClientAuthenticationMethod(method), PLAIN.secret().clientSecret());
    var answer = grant(new RestClientClientCredentialsTokenResponseClient(), registration);
    requireToken(answer.getAccessToken());
  }

  @Test
  void wrongSecretIsInvalidClient() {
    // The well-formed secret of another client, so that it is really compared.
    var registration =
        withSecret(
            ClientAuthenticationMethod.CLIENT_SECRET_BASIC, PLAIN.gateway().clientSecret());
    requireInvalidClient(new RestClientClientCredentialsTokenResponseClient(), registration);
  }

  /** Spring reads the error of a 400 only. That of a 401 is in the text of the answer. */
  private static void requireInvalidClient(
      RestClientClientCredentialsTokenResponseClient client, ClientRegistration registration) {
    var refused =
        assertThrows(OAuth2AuthorizationException.class, () -> grant(client, registration));
    var answer = assertInstanceOf(HttpClientErrorException.Unauthorized.class, refused.getCause());
    var body = JsonMapper.shared().readTree(answer.getResponseBodyAsString());
    assertEquals("invalid_client", body.path("error").asString());
  }

  private static void requireToken(OAuth2AccessToken token) {
    assertEquals(OAuth2AccessToken.TokenType.BEARER, token.getTokenType());
    assertEquals(new HashSet<>(PLAIN.scopes()), token.getScopes());
    var lifetime = Duration.between(Instant.now(), token.getExpiresAt());
    assertEquals(15, lifetime.plusMinutes(1).toMinutes());
  }

  private static JWK key(String name, String algorithm) throws Exception {
    Path file = PLAIN.keys().get(name).privateKey();
    byte[] publicKey = pem(Path.of(file.toString().replace(".key.pem", ".pub.pem")));
    var factory = KeyFactory.getInstance(name.equals("RSA") ? "RSA" : "EC");
    var privateKey = factory.generatePrivate(new PKCS8EncodedKeySpec(pem(file)));
    var known = factory.generatePublic(new X509EncodedKeySpec(publicKey));
    var chosen = JWSAlgorithm.parse(algorithm);
    if (known instanceof RSAPublicKey rsa) {
      return new RSAKey.Builder(rsa).privateKey(privateKey).algorithm(chosen).build();
    }
    var ec = (ECPublicKey) known;
    return new ECKey.Builder(Curve.forECParameterSpec(ec.getParams()), ec)
        .privateKey(privateKey)
        .algorithm(chosen)
        .build();
  }

  private static byte[] pem(Path file) throws Exception {
    return Base64.getMimeDecoder().decode(Files.readString(file).replaceAll("-----[A-Z ]+-----", ""));
  }

  @ParameterizedTest
  @CsvSource({"ES256, ES256", "ES384, ES384", "RSA, PS256", "RSA, RS256"})
  void privateKeyJwtGetsATokenThatTheDecoderAccepts(String name, String algorithm)
      throws Exception {
    var registration =
        discover(PLAIN, PLAIN.keys().get(name).clientId())
            .clientAuthenticationMethod(ClientAuthenticationMethod.PRIVATE_KEY_JWT)
            .build();
    JWK key = key(name, algorithm);
    var assertion =
        new NimbusJwtClientAuthenticationParametersConverter<OAuth2ClientCredentialsGrantRequest>(
            any -> key);
    // By default the audience is the token endpoint, which the update of RFC 7523 rules out.
    String issuer = registration.getProviderDetails().getIssuerUri();
    assertion.setJwtClientAssertionCustomizer(
        context -> context.getClaims().audience(List.of(issuer)));
    var client = new RestClientClientCredentialsTokenResponseClient();
    client.addParametersConverter(assertion);

    OAuth2AccessToken token = grant(client, registration).getAccessToken();
    requireToken(token);
    Jwt decoded = decoder(registration, PLAIN.tenant()).build().decode(token.getTokenValue());
    assertEquals(PLAIN.application(), decoded.getSubject());
  }

  /** The decoder that proto/README.md describes. */
  private static DecoderBuilder decoder(ClientRegistration registration, String audience) {
    return new DecoderBuilder(registration, audience, new RestTemplate());
  }

  private record DecoderBuilder(
      ClientRegistration registration, String audience, RestTemplate http) {
    NimbusJwtDecoder build() {
      NimbusJwtDecoder decoder =
          NimbusJwtDecoder.withJwkSetUri(registration.getProviderDetails().getJwkSetUri())
              .jwsAlgorithm(SignatureAlgorithm.ES256)
              .validateType(false)
              .restOperations(http)
              .build();
      decoder.setJwtValidator(
          JwtValidators.createAtJwtValidator()
              .issuer(registration.getProviderDetails().getIssuerUri())
              .audience(audience)
              .validators(
                  all ->
                      all.put(
                          "client_id",
                          new JwtClaimValidator<String>("client_id", Objects::nonNull)))
              .build());
      return decoder;
    }
  }

  private static SslBundle sslBundle(Fixture.Certificate client) {
    var trust = PemSslStoreDetails.forCertificate("file:" + FIXTURE.ca());
    var own =
        client == null
            ? null
            : PemSslStoreDetails.forCertificate("file:" + client.certificate())
                .withPrivateKey("file:" + client.privateKey());
    return SslBundle.of(new PemSslStoreBundle(own, trust));
  }

  private static RestClientClientCredentialsTokenResponseClient over(ClientHttpRequestFactory http) {
    var client = new RestClientClientCredentialsTokenResponseClient();
    // It sends the client id. Only clients that set a converter may use a certificate.
    client.setParametersConverter(new DefaultOAuth2TokenRequestParametersConverter<>());
    client.setRestClient(
        RestClient.builder()
            .requestFactory(http)
            .messageConverters(
                converters -> {
                  converters.clear();
                  converters.add(new FormHttpMessageConverter());
                  converters.add(new OAuth2AccessTokenResponseHttpMessageConverter());
                })
            .defaultStatusHandler(new OAuth2ErrorResponseErrorHandler())
            .build());
    return client;
  }

  private static ClientRegistration withCertificate(Fixture.Certificate certificate) {
    // Discovery uses the JDK's settings, where the authority of the server stands in for a public one.
    HttpsURLConnection.setDefaultSSLSocketFactory(
        sslBundle(null).createSslContext().getSocketFactory());
    return discover(FIXTURE.strict(), certificate.clientId())
        .clientAuthenticationMethod(ClientAuthenticationMethod.TLS_CLIENT_AUTH)
        .build();
  }

  @Test
  void certificateOfAnSslBundleGetsATokenBoundToIt() throws Exception {
    var certificate = FIXTURE.strict().certificate();
    var registration = withCertificate(certificate);
    var http =
        ClientHttpRequestFactoryBuilder.jdk()
            .build(HttpClientSettings.ofSslBundle(sslBundle(certificate)));
    OAuth2AccessToken token = grant(over(http), registration).getAccessToken();
    var trusting = new RestTemplate(http);
    var decoder = new DecoderBuilder(registration, FIXTURE.strict().tenant(), trusting).build();
    Map<String, Object> bound = decoder.decode(token.getTokenValue()).getClaimAsMap("cnf");
    assertEquals(Map.of("x5t#S256", thumbprint(certificate.certificate())), bound);
  }

  @Test
  void certificateOfTheJdkClientGetsAToken() {
    var certificate = FIXTURE.strict().certificate();
    var context = sslBundle(certificate).createSslContext();
    var http = new JdkClientHttpRequestFactory(HttpClient.newBuilder().sslContext(context).build());
    var answer = grant(over(http), withCertificate(certificate));
    assertEquals(new HashSet<>(PLAIN.scopes()), answer.getAccessToken().getScopes());
  }

  @Test
  void connectionWithoutACertificateIsInvalidClient() {
    var registration = withCertificate(FIXTURE.strict().certificate());
    var http =
        ClientHttpRequestFactoryBuilder.jdk().build(HttpClientSettings.ofSslBundle(sslBundle(null)));
    requireInvalidClient(over(http), registration);
  }

  private static String thumbprint(Path pem) throws Exception {
    try (var file = Files.newInputStream(pem)) {
      var certificate = CertificateFactory.getInstance("X.509").generateCertificate(file);
      byte[] hash = MessageDigest.getInstance("SHA-256").digest(certificate.getEncoded());
      return Base64.getUrlEncoder().withoutPadding().encodeToString(hash);
    }
  }
}
