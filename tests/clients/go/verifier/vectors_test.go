package verifier

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	accessv1 "keyward/access/v1"
)

type entry struct {
	Number     int64  `json:"number"`
	TokenID    string `json:"token_id"`
	ClientID   string `json:"client_id"`
	Subject    string `json:"subject"`
	Tenant     string `json:"tenant"`
	KeyID      string `json:"key_id"`
	Epoch      int64  `json:"epoch"`
	ExpireTime *int64 `json:"expire_time"`
}

func (e entry) message() *accessv1.Revocation {
	message := &accessv1.Revocation{Number: e.Number, Epoch: e.Epoch}
	if e.ExpireTime != nil {
		message.ExpireTime = timestamppb.New(time.Unix(*e.ExpireTime, 0))
	}
	switch {
	case e.TokenID != "":
		message.Revoked = &accessv1.Revocation_TokenId{TokenId: e.TokenID}
	case e.ClientID != "":
		message.Revoked = &accessv1.Revocation_ClientId{ClientId: e.ClientID}
	case e.Subject != "":
		message.Revoked = &accessv1.Revocation_Subject{Subject: e.Subject}
	case e.Tenant != "":
		message.Revoked = &accessv1.Revocation_Tenant{Tenant: e.Tenant}
	case e.KeyID != "":
		message.Revoked = &accessv1.Revocation_KeyId{KeyId: e.KeyID}
	}
	return message
}

type message struct {
	Revocations []entry `json:"revocations"`
	Cursor      string  `json:"cursor"`
	Snapshot    bool    `json:"snapshot"`
	Staleness   *int64  `json:"staleness"`
}

func (m message) message() *accessv1.WatchRevocationsResponse {
	made := &accessv1.WatchRevocationsResponse{Cursor: m.Cursor, Snapshot: m.Snapshot}
	for _, entry := range m.Revocations {
		made.Revocations = append(made.Revocations, entry.message())
	}
	if m.Staleness != nil {
		made.Staleness = durationpb.New(time.Duration(*m.Staleness) * time.Second)
	}
	return made
}

type vector struct {
	Name        string     `json:"name"`
	Token       string     `json:"token"`
	Certificate []byte     `json:"certificate"`
	DPoP        *DPoPProof `json:"dpop"`
	Valid       bool       `json:"valid"`
	Claims      struct {
		Tenant      string   `json:"tenant"`
		Application string   `json:"application"`
		ClientID    string   `json:"client_id"`
		TokenID     string   `json:"token_id"`
		ExpiresAt   int64    `json:"expires_at"`
		Scopes      []string `json:"scopes"`
		Roles       []string `json:"roles"`
	} `json:"claims"`
	Reasons []Reason `json:"reasons"`
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(os.Getenv("KEYWARD_VECTORS"), name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func prepared(t *testing.T) *Verifier {
	t.Helper()
	var context struct {
		Now         int64
		Issuer      string
		Audience    string
		JWKS        json.RawMessage
		Revocations []entry
	}
	load(t, "context", &context)
	clock := func() time.Time { return time.Unix(context.Now, 0) }
	verifier, err := New(Settings{
		Issuer: context.Issuer, Audience: context.Audience, Clock: clock, MaxLag: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.takeKeys(string(context.JWKS)); err != nil {
		t.Fatal(err)
	}
	known := int64(0)
	for _, message := range []message{
		{Revocations: context.Revocations, Snapshot: true}, {Cursor: "c", Staleness: &known}} {
		if err := verifier.feed.take(message.message(), 0); err != nil {
			t.Fatal(err)
		}
	}
	return verifier
}

func TestVectors(t *testing.T) {
	verifier := prepared(t)
	for _, name := range []string{"good", "expired", "revoked", "forged", "bound"} {
		var file struct{ Vectors []vector }
		load(t, name, &file)
		if len(file.Vectors) == 0 {
			t.Fatalf("%s.json is empty", name)
		}
		t.Logf("%d vectors of %s.json", len(file.Vectors), name)
		for _, vector := range file.Vectors {
			t.Run(name+"/"+vector.Name, func(t *testing.T) { vector.check(t, verifier) })
		}
	}
}

func (v vector) check(t *testing.T, verifier *Verifier) {
	token, err := verifier.VerifyBound(v.Token, Sender{Certificate: v.Certificate, DPoP: v.DPoP})
	var refused *Refused
	if errors.As(err, &refused) {
		if v.Valid || !slices.Contains(v.Reasons, refused.Reason) {
			t.Fatalf("refused with %v, and not %v", refused, v.Reasons)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !v.Valid {
		t.Fatalf("accepted, and not refused with %v", v.Reasons)
	}
	claims := v.Claims
	if token.Tenant != claims.Tenant || token.Application != claims.Application ||
		token.ClientID != claims.ClientID || token.TokenID != claims.TokenID ||
		token.ExpiresAt.Unix() != claims.ExpiresAt || !slices.Equal(token.Scopes, claims.Scopes) ||
		!slices.Equal(token.Roles, claims.Roles) {
		t.Fatalf("%+v is not %+v", token, claims)
	}
}

type step struct {
	Step         string   `json:"step"`
	Message      message  `json:"message"`
	Sent         int64    `json:"sent"`
	Now          int64    `json:"now"`
	Revoked      []string `json:"revoked"`
	NotRevoked   []string `json:"not_revoked"`
	Cursor       string   `json:"cursor"`
	CompleteAsOf *int64   `json:"complete_as_of"`
}

func TestStoriesOfTheFeed(t *testing.T) {
	var file struct {
		Stories []struct {
			Name  string
			Steps []step
		}
	}
	load(t, "feed", &file)
	for _, story := range file.Stories {
		t.Run(story.Name, func(t *testing.T) {
			feed := newFeed()
			for _, step := range story.Steps {
				step.play(t, feed)
			}
		})
	}
}

func (s step) play(t *testing.T, feed *feed) {
	t.Helper()
	sent := time.Duration(s.Sent) * time.Second
	switch s.Step {
	case "begin":
		feed.begin()
	case "lose":
		feed.lose()
	case "message":
		if err := feed.take(s.Message.message(), sent); err != nil {
			t.Fatal(err)
		}
		feed.forget(time.Unix(s.Now, 0))
	case "refused_message":
		var broken *feedError
		if err := feed.take(s.Message.message(), sent); !errors.As(err, &broken) {
			t.Fatalf("the message was taken: %v", err)
		}
	case "expect":
		for _, tenant := range slices.Concat(s.Revoked, s.NotRevoked) {
			if feed.isBelow("tenant", tenant, 0) != slices.Contains(s.Revoked, tenant) {
				t.Fatalf("tenant %s: revoked are %v", tenant, s.Revoked)
			}
		}
		expected := never
		if s.CompleteAsOf != nil {
			expected = time.Duration(*s.CompleteAsOf) * time.Second
		}
		if feed.cursor != s.Cursor || feed.confirmed != expected {
			t.Fatalf("cursor %q, complete as of %v", feed.cursor, feed.confirmed)
		}
	default:
		t.Fatalf("unknown step %q", s.Step)
	}
}

func BenchmarkVerify(b *testing.B) {
	t := &testing.T{}
	verifier := prepared(t)
	var file struct{ Vectors []vector }
	load(t, "good", &file)
	for b.Loop() {
		if _, err := verifier.Verify(file.Vectors[0].Token); err != nil {
			b.Fatal(err)
		}
	}
}
