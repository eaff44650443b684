// Package oauth tests OAuth clients of other projects with a real server.
package oauth

import (
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/client/rp"
	"github.com/zitadel/oidc/v3/pkg/client/rs"
	"github.com/zitadel/oidc/v3/pkg/client/tokenexchange"
	"github.com/zitadel/oidc/v3/pkg/crypto"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"keyward/clients/fixture"
)

const apiKeyType oidc.TokenType = "urn:keyward:params:oauth:token-type:api_key"

// relyingParty is zitadel/oidc's client, which discovers everything from the issuer.
func relyingParty(t *testing.T, issuer, id, secret string, style oauth2.AuthStyle) rp.RelyingParty {
	t.Helper()
	party, err := rp.NewRelyingPartyOIDC(t.Context(), issuer, id, secret, "", nil, rp.WithAuthStyle(style))
	if err != nil {
		t.Fatal(err)
	}
	return party
}

// requireToken fails the test unless the token is one with all scopes of the application.
func requireToken(t *testing.T, token *oauth2.Token, err error, scopes []string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if token.TokenType != "Bearer" || token.Extra("scope") != strings.Join(scopes, " ") {
		t.Fatalf("%s token with scope %v", token.TokenType, token.Extra("scope"))
	}
}

func TestZitadelGetsATokenWithASecret(t *testing.T) {
	server := fixture.Read(t).Plain
	styles := map[string]oauth2.AuthStyle{
		"in the header": oauth2.AuthStyleInHeader,
		"in the body":   oauth2.AuthStyleInParams,
		"either way":    oauth2.AuthStyleAutoDetect,
	}
	for name, style := range styles {
		t.Run(name, func(t *testing.T) {
			id, secret := server.Secret.ClientID, server.Secret.ClientSecret
			party := relyingParty(t, server.Issuer, id, secret, style)
			token, err := rp.ClientCredentials(t.Context(), party, nil)
			requireToken(t, token, err, server.Scopes)
		})
	}
}

func TestXOAuth2GetsATokenFromDiscoveryAlone(t *testing.T) {
	server := fixture.Read(t).Plain
	config, err := client.Discover(t.Context(), server.Issuer, newHTTPClient())
	if err != nil {
		t.Fatal(err)
	}
	credentials := clientcredentials.Config{
		ClientID:     server.Secret.ClientID,
		ClientSecret: server.Secret.ClientSecret,
		TokenURL:     config.TokenEndpoint,
	}
	token, err := credentials.Token(t.Context())
	requireToken(t, token, err, server.Scopes)
}

// signer makes the signer that zitadel/oidc makes of a key, or for PS256 one of go-jose.
func signer(t *testing.T, algorithm string, key fixture.Key) jose.Signer {
	t.Helper()
	pem, err := os.ReadFile(key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if algorithm != "PS256" {
		made, err := client.NewSignerFromPrivateKeyByte(pem, "")
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	private, _, err := crypto.BytesToPrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	made, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: private}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestZitadelGetsATokenWithPrivateKeyJWT(t *testing.T) {
	server := fixture.Read(t).Plain
	keys := map[string]string{"ES256": "ES256", "EdDSA": "EdDSA", "RS256": "RSA", "PS256": "RSA"}
	for algorithm, name := range keys {
		t.Run(algorithm, func(t *testing.T) {
			key := server.Keys[name]
			party := relyingParty(t, server.Issuer, key.ClientID, "", oauth2.AuthStyleInParams)
			assertion, err := client.SignedJWTProfileAssertion(
				key.ClientID, []string{party.Issuer()}, time.Minute, signer(t, algorithm, key))
			if err != nil {
				t.Fatal(err)
			}
			form := url.Values{}
			client.ClientAssertionFormAuthorization(assertion)(form)
			token, err := rp.ClientCredentials(t.Context(), party, form)
			requireToken(t, token, err, server.Scopes)

			// An assertion is accepted once.
			if _, err := rp.ClientCredentials(t.Context(), party, form); !isRefused(err, "invalid_client") {
				t.Fatalf("the assertion was used twice: %v", err)
			}
			requireActive(t, server, key, token.AccessToken)
		})
	}
}

// requireActive introspects a token with zitadel/oidc's resource server, which signs an assertion too.
func requireActive(t *testing.T, server fixture.Server, key fixture.Key, token string) {
	t.Helper()
	pem, err := os.ReadFile(key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	resource, err := rs.NewResourceServerJWTProfile(t.Context(), server.Issuer, key.ClientID, "", pem)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := rs.Introspect[*oidc.IntrospectionResponse](t.Context(), resource, token)
	if err != nil {
		t.Fatal(err)
	}
	if !answer.Active || answer.Subject != server.Application {
		t.Fatalf("the token is not active for %s: %+v", server.Application, answer)
	}
}

func TestZitadelExchangesAnAPIKey(t *testing.T) {
	server := fixture.Read(t).Plain
	id, secret, audience := server.Gateway.ClientID, server.Gateway.ClientSecret, server.Gateway.Audience
	exchanger, err := tokenexchange.NewTokenExchangerClientCredentials(t.Context(), server.Issuer, id, secret)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := tokenexchange.ExchangeToken(t.Context(), exchanger, server.APIKey, apiKeyType, "", "",
		nil, []string{audience}, server.Scopes[:1], oidc.AccessTokenType)
	if err != nil {
		t.Fatal(err)
	}
	if answer.IssuedTokenType != oidc.AccessTokenType || answer.Scopes.String() != server.Scopes[0] {
		t.Fatalf("the answer is %+v", answer)
	}
}

func TestWrongSecretIsInvalidClient(t *testing.T) {
	server := fixture.Read(t).Plain
	// The well-formed secret of another client, so that it is really compared.
	id, wrong := server.Secret.ClientID, server.Gateway.ClientSecret
	party := relyingParty(t, server.Issuer, id, wrong, oauth2.AuthStyleInHeader)
	if _, err := rp.ClientCredentials(context.Background(), party, nil); !isRefused(err, "invalid_client") {
		t.Fatalf("a wrong secret: %v", err)
	}
}
