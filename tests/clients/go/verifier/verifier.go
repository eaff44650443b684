package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Settings are the settings of a verifier.
type Settings struct {
	// Issuer and Audience are what tokens must have.
	Issuer, Audience string
	// MaxLag is the maximum age of the revocation data: 5 s by default, 2 s at least.
	MaxLag time.Duration
	// APIKeyPrefix is `kwk` by default.
	APIKeyPrefix string
	// Clock is time.Now by default.
	Clock func() time.Time
}

// Verifier verifies access tokens without a call for each. Until it follows a server, and while its data is older than
// MaxLag, good tokens are refused with NotReady or FeedLost.
type Verifier struct {
	settings Settings
	keys     atomic.Pointer[keySet]
	feed     *feed
	started  time.Time
	ready    chan struct{}
	once     sync.Once
}

// New makes a verifier, which knows nothing yet.
func New(settings Settings) (*Verifier, error) {
	if settings.MaxLag == 0 {
		settings.MaxLag = 5 * time.Second
	}
	if settings.MaxLag < 2*time.Second {
		return nil, errors.New("MaxLag must be at least 2 s")
	}
	if settings.APIKeyPrefix == "" {
		settings.APIKeyPrefix = "kwk"
	}
	if settings.Clock == nil {
		settings.Clock = time.Now
	}
	return &Verifier{settings: settings, feed: newFeed(), started: time.Now(), ready: make(chan struct{})}, nil
}

// Follow follows a server until the context ends. It returns when keys and revocations are read.
func (v *Verifier) Follow(ctx context.Context, server Server, readyWithin time.Duration) error {
	following := &follower{server: server, verifier: v, started: v.started}
	go following.run(ctx)
	select {
	case <-v.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(readyWithin):
		return fmt.Errorf("the verifier was not ready within %v", readyWithin)
	}
}

// monotonic is the time since the verifier was made, on a clock that is never set.
func (v *Verifier) monotonic() time.Duration { return time.Since(v.started) }

// takeKeys replaces the key set as a whole.
func (v *Verifier) takeKeys(jwks string) error {
	keys, err := parseKeys(jwks)
	if err == nil {
		v.keys.Store(&keys)
	}
	return err
}

func (v *Verifier) noteProgress() {
	if keys := v.keys.Load(); keys != nil && len(*keys) > 0 && v.feed.completeAsOf() != never {
		v.once.Do(func() { close(v.ready) })
	}
}

// Lag is the age of the revocation data. The second result is false until it was read once.
func (v *Verifier) Lag() (time.Duration, bool) {
	return v.lagSince(v.feed.completeAsOf())
}

func (v *Verifier) lagSince(confirmed time.Duration) (time.Duration, bool) {
	if confirmed == never {
		return 0, false
	}
	return v.monotonic() - confirmed, true
}

// Verify verifies a token. A token that is bound to a key or a certificate is refused: see VerifyBound.
func (v *Verifier) Verify(token string) (*Verified, error) {
	return v.VerifyBound(token, Sender{})
}

// VerifyBound verifies a token, and that the sender has what it is bound to. The error is a *Refused.
func (v *Verifier) VerifyBound(token string, sender Sender) (*Verified, error) {
	// Only Keyward can verify an API key: call AccessService.CheckAccess.
	if strings.HasPrefix(token, v.settings.APIKeyPrefix+"_") {
		return nil, refuse(APIKey)
	}
	keys := v.keys.Load()
	if keys == nil || len(*keys) == 0 {
		return nil, refuse(NotReady)
	}
	now := v.settings.Clock()
	verified, err := read(token, *keys, v.settings.Issuer, now)
	if err != nil {
		return nil, v.orFeedLost(err)
	}
	if !slices.Contains(verified.Audiences, v.settings.Audience) {
		return nil, refuse(WrongAudience)
	}
	if err := sender.require(verified, token, now); err != nil {
		return nil, err
	}
	if err := v.requireUnrevoked(verified); err != nil {
		return nil, err
	}
	return verified, nil
}

// Recheck checks expiry and revocation of a verified token again, for long requests such as streams.
func (v *Verifier) Recheck(token *Verified) error {
	if err := token.checkTime(v.settings.Clock()); err != nil {
		return err
	}
	if keys := v.keys.Load(); keys == nil || (*keys)[token.keyID] == nil {
		return refuse(UnknownKey)
	}
	return v.requireUnrevoked(token)
}

// orFeedLost replaces the refusal of an unknown key: it may have been published since.
func (v *Verifier) orFeedLost(err error) error {
	var refused *Refused
	lag, known := v.Lag()
	if errors.As(err, &refused) && refused.Reason == UnknownKey && known && lag > v.settings.MaxLag {
		return refuse(FeedLost)
	}
	return err
}

func (v *Verifier) requireUnrevoked(token *Verified) error {
	revoked, confirmed := v.feed.revokes(token)
	if revoked {
		return refuse(Revoked)
	}
	lag, known := v.lagSince(confirmed)
	if !known {
		return refuse(NotReady)
	}
	if lag > v.settings.MaxLag {
		return &Refused{FeedLost, fmt.Sprintf("revocations of the last %v are unknown: retry", lag)}
	}
	return nil
}
