package oauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/sts"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"keyward/clients/fixture"
)

func newHTTPClient() *http.Client { return &http.Client{} }

// isRefused reports whether a token request failed with this error of RFC 6749.
func isRefused(err error, code string) bool {
	var refused *oauth2.RetrieveError
	return errors.As(err, &refused) && refused.ErrorCode == code
}

// call makes one call to a service of this test with the token that grpc-go's STS client gets, and returns
// the `authorization` that the service received.
func call(t *testing.T, prepared fixture.Fixture, tokenEndpoint string) (string, error) {
	t.Helper()
	server := prepared.Plain
	subject := filepath.Join(t.TempDir(), "subject-token")
	if err := os.WriteFile(subject, []byte(server.APIKey), 0o600); err != nil {
		t.Fatal(err)
	}
	// The STS client has no option for client authentication; net/http makes it of the URL.
	endpoint, err := url.Parse(tokenEndpoint)
	if err != nil {
		t.Fatal(err)
	}
	endpoint.User = url.UserPassword(server.Gateway.ClientID, server.Gateway.ClientSecret)
	exchange, err := sts.NewCredentials(sts.Options{
		TokenExchangeServiceURI: endpoint.String(),
		Audience:                server.Gateway.Audience,
		Scope:                   server.Scopes[0],
		SubjectTokenPath:        subject,
		SubjectTokenType:        string(apiKeyType),
	})
	if err != nil {
		t.Fatal(err)
	}
	connection, err := grpc.NewClient(billing(t, prepared),
		grpc.WithTransportCredentials(trusting(t, prepared.CA)), grpc.WithPerRPCCredentials(exchange))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	var received metadata.MD
	_, err = healthv1.NewHealthClient(connection).Check(
		t.Context(), &healthv1.HealthCheckRequest{}, grpc.Header(&received))
	return strings.Join(received.Get("received-authorization"), ","), err
}

func trusting(t *testing.T, ca string) credentials.TransportCredentials {
	t.Helper()
	trust, err := credentials.NewClientTLSFromFile(ca, "")
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// billing starts a service with TLS that tells its caller which `authorization` it received.
func billing(t *testing.T, prepared fixture.Fixture) string {
	t.Helper()
	tls, err := credentials.NewServerTLSFromFile(prepared.ServerCertificate, prepared.ServerKey)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		for _, value := range metadata.ValueFromIncomingContext(ctx, "authorization") {
			grpc.SetHeader(ctx, metadata.Pairs("received-authorization", value))
		}
		return next(ctx, request)
	}
	server := grpc.NewServer(grpc.Creds(tls), grpc.UnaryInterceptor(tell))
	healthv1.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func TestSTSOfGRPCGoExchangesAnAPIKey(t *testing.T) {
	prepared := fixture.Read(t)
	server := prepared.Plain
	authorization, err := call(t, prepared, server.Issuer+"/oauth2/token")
	if err != nil {
		t.Fatal(err)
	}
	token, isBearer := strings.CutPrefix(authorization, "Bearer ")
	if !isBearer {
		t.Fatalf("the service received %q", authorization)
	}
	id, secret := server.Verifier.ClientID, server.Verifier.ClientSecret
	resource, err := rs.NewResourceServerClientCredentials(t.Context(), server.Issuer, id, secret)
	if err != nil {
		t.Fatal(err)
	}
	known, err := rs.Introspect[*oidc.IntrospectionResponse](t.Context(), resource, token)
	if err != nil {
		t.Fatal(err)
	}
	if !known.Active || known.Subject != server.Application || known.Scope.String() != server.Scopes[0] {
		t.Fatalf("the token is %+v", known)
	}
}
