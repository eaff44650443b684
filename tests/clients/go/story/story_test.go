// Package story is a client in Go from its first call to its last: a console acts for a user, an integration gets
// tokens, a service checks them. The same story is written in Java, Python and TypeScript.
package story

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	// Has the protos of others: no name of a file may be registered twice.
	_ "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"golang.org/x/oauth2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // The service config turns on health checks.
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	accessv1 "keyward/access/v1"
	adminv1 "keyward/admin/v1"
	"keyward/clients/fixture"
	tokenv1 "keyward/token/v1"
)

// connect has a deadline and retries for each call, by the service config of the repository.
func connect(t *testing.T, server fixture.Server) *grpc.ClientConn {
	config, err := os.ReadFile(filepath.Join(os.Getenv("KEYWARD_PROTOS"), "keyward_grpc_service_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	connection, err := grpc.NewClient(server.GRPC,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

// authorized adds the token of a client for Keyward itself to a context.
func authorized(t *testing.T, connection *grpc.ClientConn, client fixture.Secret) context.Context {
	secret := &tokenv1.ClientSecret{ClientId: client.ClientID, ClientSecret: client.ClientSecret}
	issued, err := tokenv1.NewTokenServiceClient(connection).IssueToken(t.Context(), &tokenv1.IssueTokenRequest{
		Credential: &tokenv1.IssueTokenRequest_ClientSecret{ClientSecret: secret},
		Audiences:  []string{"keyward"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+issued.AccessToken)
}

func TestStory(t *testing.T) {
	server := fixture.Read(t).Plain
	connection := connect(t, server)

	// The console acts for a user, who creates an application with a limit, a secret and a key.
	console := metadata.AppendToOutgoingContext(
		authorized(t, connection, server.Console), "keyward-user", server.User)
	application := createApplication(t, console, connection, server)
	secret := createCredential(t, console, connection, application, &adminv1.Credential{
		Kind: adminv1.Credential_KIND_CLIENT_SECRET})
	private, public := newKey(t)
	key := createCredential(t, console, connection, application, &adminv1.Credential{
		Kind: adminv1.Credential_KIND_PUBLIC_KEY,
		Registration: &adminv1.Credential_PublicKey_{PublicKey: &adminv1.Credential_PublicKey{
			Keys: &adminv1.Credential_PublicKey_Pem{Pem: public}}},
	})

	// The integration knows the issuer. It gets a token with the secret, and another one with the key.
	bySecret := tokenBySecret(t, server.Issuer, secret.Credential.ClientId, secret.Secret)
	byKey := tokenByKey(t, server.Issuer, key.Credential.ClientId, private)

	// A service asks about each request, until the limit of the application is reached.
	service := authorized(t, connection, server.Verifier)
	wait := checkUntilLimited(t, service, connection, application, []string{bySecret, byKey, bySecret, byKey})
	// The window is a minute, which may pass in steps.
	if wait < 30*time.Second || wait > 90*time.Second {
		t.Fatalf("wait for %v", wait)
	}

	readErrors(t, console, connection, server)
	followRevocation(t, service, connection, bySecret)
}

func createApplication(
	t *testing.T, console context.Context, connection *grpc.ClientConn, server fixture.Server,
) string {
	created, err := adminv1.NewApplicationServiceClient(connection).CreateApplication(console,
		&adminv1.CreateApplicationRequest{
			Parent: server.Tenant,
			Application: &adminv1.Application{
				DisplayName: "Story in Go",
				Scopes:      server.Scopes[:1],
				Limits:      &adminv1.Limits{Requests: 3},
			},
		})
	if err != nil {
		t.Fatal(err)
	}
	if created.Application.Owner != server.User {
		t.Fatalf("the owner is %q", created.Application.Owner)
	}
	return created.Application.Name
}

func createCredential(
	t *testing.T, console context.Context, connection *grpc.ClientConn, application string,
	credential *adminv1.Credential,
) *adminv1.CreateCredentialResponse {
	created, err := adminv1.NewCredentialServiceClient(connection).CreateCredential(console,
		&adminv1.CreateCredentialRequest{Parent: application, Credential: credential})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// newKey makes a key of the integration, in PEM. Keyward gets the public one only.
func newKey(t *testing.T) (private []byte, public string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}))
}

func tokenBySecret(t *testing.T, issuer, id, secret string) string {
	party, err := rp.NewRelyingPartyOIDC(t.Context(), issuer, id, secret, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := rp.ClientCredentials(t.Context(), party, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token.AccessToken
}

func tokenByKey(t *testing.T, issuer, id string, private []byte) string {
	style := rp.WithAuthStyle(oauth2.AuthStyleInParams)
	party, err := rp.NewRelyingPartyOIDC(t.Context(), issuer, id, "", "", nil, style)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := client.NewSignerFromPrivateKeyByte(private, "")
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := client.SignedJWTProfileAssertion(id, []string{issuer}, time.Minute, signer)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{}
	client.ClientAssertionFormAuthorization(assertion)(form)
	token, err := rp.ClientCredentials(t.Context(), party, form)
	if err != nil {
		t.Fatal(err)
	}
	return token.AccessToken
}

// checkUntilLimited returns how long to wait before the next request.
func checkUntilLimited(
	t *testing.T, service context.Context, connection *grpc.ClientConn, application string, tokens []string,
) time.Duration {
	access := accessv1.NewAccessServiceClient(connection)
	for request, token := range tokens {
		checked, err := access.CheckAccess(service, &accessv1.CheckAccessRequest{
			Token: token,
			Requirement: &accessv1.CheckAccessRequest_Scopes{
				Scopes: &accessv1.RequiredScopes{AllOf: []string{"calls.read"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if checked.Principal.Application != application || checked.Allowed != (request < 3) {
			t.Fatalf("request %d: %v", request, checked)
		}
		if checked.Outcome == accessv1.CheckAccessResponse_OUTCOME_RATE_LIMITED {
			return checked.RetryAfter.AsDuration()
		}
	}
	t.Fatal("there was no limit")
	return 0
}

// readErrors reads the reason of an error and the wrong fields. The answer has no headers of its own: otherwise clients
// would not retry (gRFC A6).
func readErrors(t *testing.T, console context.Context, connection *grpc.ClientConn, server fixture.Server) {
	var headers metadata.MD
	wrong := &adminv1.Application{Scopes: []string{"no scope"}, ContactEmail: "no address"}
	_, err := adminv1.NewApplicationServiceClient(connection).CreateApplication(console,
		&adminv1.CreateApplicationRequest{Parent: server.Tenant, Application: wrong}, grpc.Header(&headers))
	if status.Code(err) != codes.InvalidArgument || len(headers) != 0 {
		t.Fatalf("%v, with the headers %v", err, headers)
	}
	fields := map[string]string{}
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Reason != "INVALID_FIELD" || detail.Domain != "keyward" {
				t.Fatalf("the error is %v", detail)
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fields[violation.Field] = violation.Description
			}
		}
	}
	for _, field := range []string{"application.display_name", "application.contact_email"} {
		if fields[field] == "" {
			t.Fatalf("%s is not among the wrong fields: %v", field, fields)
		}
	}
}

// followRevocation revokes a token, and waits until the feed has it.
func followRevocation(t *testing.T, service context.Context, connection *grpc.ClientConn, token string) {
	tokens := tokenv1.NewTokenServiceClient(connection)
	known, err := tokens.IntrospectToken(service, &tokenv1.IntrospectTokenRequest{Token: token})
	if err != nil || !known.Active {
		t.Fatalf("%v: %v", known, err)
	}
	feed, err := accessv1.NewRevocationServiceClient(connection).WatchRevocations(
		service, &accessv1.WatchRevocationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	admin := authorized(t, connection, fixture.Read(t).Plain.Admin)
	revoked, err := tokens.RevokeToken(admin, &tokenv1.RevokeTokenRequest{Token: token})
	if err != nil || !revoked.Revoked {
		t.Fatalf("%v: %v", revoked, err)
	}
	for {
		message, err := feed.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range message.Revocations {
			if entry.GetTokenId() == known.TokenId {
				return
			}
		}
	}
}
