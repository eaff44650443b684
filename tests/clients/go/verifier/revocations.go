package verifier

import (
	"fmt"
	"math"
	"sync"
	"time"

	accessv1 "keyward/access/v1"
)

// The list of revocations, and how the messages of `WatchRevocations` change it.

// margin is how long an entry is kept after its end: servers and clocks can be behind.
const margin = time.Hour

// never is the time as of which a list is complete that was never read.
const never = time.Duration(math.MinInt64)

// subject is what an entry revokes, by the claim of a token.
type subject struct{ claim, name string }

type revocation struct {
	number int64
	subject
	// Tokens with a lower epoch are revoked. 0 for a single token or a key.
	epoch     int64
	expiresAt time.Time
}

type inForce struct {
	epoch int64
	end   time.Time
}

// feed is the list with the position in it. A snapshot takes effect when it is complete, and removes nothing.
type feed struct {
	mu sync.RWMutex
	// Entries with the same subject are one, with the higher epoch.
	inForce map[subject]inForce
	cursor  string
	// confirmed is the time as of which the list is complete, on the monotonic clock.
	confirmed time.Duration
	snapshot  []revocation
	// inSnapshot is set from the first message of a snapshot to its end.
	inSnapshot bool
	// last is the number of the last entry. 0: entries can be missing before the next one.
	last int64
}

func newFeed() *feed {
	return &feed{inForce: map[subject]inForce{}, confirmed: never}
}

// feedError is a message that cannot be followed. It is never skipped: the list would have a gap.
type feedError struct{ detail string }

func (e *feedError) Error() string { return e.detail }

// begin starts a new stream: an incomplete snapshot is discarded. It returns the cursor.
func (f *feed) begin() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot, f.inSnapshot = nil, false
	return f.cursor
}

// lose makes the next stream start with a snapshot. What is in force stays in force.
func (f *feed) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursor = ""
}

// take applies a message that was sent at `sent`, on the monotonic clock, or later.
func (f *feed) take(message *accessv1.WatchRevocationsResponse, sent time.Duration) error {
	entries := make([]revocation, len(message.Revocations))
	for i, entry := range message.Revocations {
		read, err := readRevocation(entry)
		if err != nil {
			return err
		}
		entries[i] = read
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if message.Snapshot {
		f.snapshot, f.inSnapshot = append(f.snapshot, entries...), true
		return nil
	}
	if f.inSnapshot {
		f.add(f.snapshot)
		// Another server can know less than the one before.
		f.snapshot, f.inSnapshot, f.last, f.confirmed = nil, false, 0, never
	} else if f.cursor == "" {
		return &feedError{"the first message is not a snapshot"}
	}
	last := f.last
	for _, entry := range entries {
		if last != 0 && entry.number > last+1 {
			return &feedError{fmt.Sprintf("entry %d does not continue entry %d", entry.number, last)}
		}
		last = max(last, entry.number)
	}
	f.add(entries)
	f.last, f.cursor = last, message.Cursor
	// Unset if more messages follow at once: such a message confirms nothing.
	if message.Staleness != nil {
		f.confirmed = max(f.confirmed, sent-message.Staleness.AsDuration())
	}
	return nil
}

func (f *feed) add(entries []revocation) {
	for _, entry := range entries {
		known := f.inForce[entry.subject]
		if known.end.Before(entry.expiresAt) {
			known.end = entry.expiresAt
		}
		known.epoch = max(known.epoch, entry.epoch)
		f.inForce[entry.subject] = known
	}
}

func (f *feed) forget(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for subject, entry := range f.inForce {
		if !entry.end.Add(margin).After(now) {
			delete(f.inForce, subject)
		}
	}
}

// revokes reports whether the token, or one of those that it rests on, is revoked, and the time as of which that is
// known.
func (f *feed) revokes(token *Verified) (bool, time.Duration) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, parent := range token.parents {
		_, byToken := f.inForce[subject{"token_id", parent.tokenID}]
		_, byKey := f.inForce[subject{"key_id", parent.keyID}]
		if byToken || byKey || f.isBelow("tenant", token.Tenant, parent.epochs[0]) ||
			f.isBelow("subject", parent.subject, parent.epochs[1]) ||
			f.isBelow("client_id", parent.clientID, parent.epochs[2]) {
			return true, f.confirmed
		}
	}
	return false, f.confirmed
}

// isBelow reports whether tokens with this epoch of a tenant, subject or client are revoked.
func (f *feed) isBelow(claim, name string, epoch int64) bool {
	return epoch < f.inForce[subject{claim, name}].epoch
}

func (f *feed) completeAsOf() time.Duration {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.confirmed
}

func readRevocation(message *accessv1.Revocation) (revocation, error) {
	var revoked subject
	switch kind := message.Revoked.(type) {
	case *accessv1.Revocation_TokenId:
		revoked = subject{"token_id", kind.TokenId}
	case *accessv1.Revocation_ClientId:
		revoked = subject{"client_id", kind.ClientId}
	case *accessv1.Revocation_Subject:
		revoked = subject{"subject", kind.Subject}
	case *accessv1.Revocation_Tenant:
		revoked = subject{"tenant", kind.Tenant}
	case *accessv1.Revocation_KeyId:
		revoked = subject{"key_id", kind.KeyId}
	}
	if revoked.name == "" || message.Number < 1 || message.ExpireTime == nil {
		// A newer server revokes something that this version cannot represent.
		return revocation{}, &feedError{fmt.Sprintf("revocation %d is of an unknown kind", message.Number)}
	}
	return revocation{message.Number, revoked, message.Epoch, message.ExpireTime.AsTime()}, nil
}
