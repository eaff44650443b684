// Package verifier verifies access tokens of Keyward offline: in microseconds, with revocations. See README.md.
package verifier

// Reason says why a token is refused. The reasons are those of tests/vectors/README.md.
type Reason string

// The reasons.
const (
	APIKey              Reason = "api_key"
	Malformed           Reason = "malformed"
	WrongType           Reason = "wrong_type"
	UnknownKey          Reason = "unknown_key"
	BadSignature        Reason = "bad_signature"
	WrongIssuer         Reason = "wrong_issuer"
	WrongAudience       Reason = "wrong_audience"
	Expired             Reason = "expired"
	NotYetValid         Reason = "not_yet_valid"
	CertificateRequired Reason = "certificate_required"
	OtherCertificate    Reason = "other_certificate"
	ProofRequired       Reason = "proof_required"
	OtherKey            Reason = "other_key"
	NotBoundToKey       Reason = "not_bound_to_key"
	InvalidProof        Reason = "invalid_proof"
	Revoked             Reason = "revoked"
	FeedLost            Reason = "feed_lost"
	NotReady            Reason = "not_ready"
)

// Refused is the error of a token that is refused.
type Refused struct {
	Reason Reason
	// Detail is for developers.
	Detail string
}

func (r *Refused) Error() string {
	if r.Detail == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ": " + r.Detail
}

// IsTemporary reports whether the verifier is the cause, and not the token: answer 503 (UNAVAILABLE), and not 401.
func (r *Refused) IsTemporary() bool {
	return r.Reason == FeedLost || r.Reason == NotReady
}

func refuse(reason Reason) error { return &Refused{Reason: reason} }

func malformed(err error) error { return &Refused{Reason: Malformed, Detail: err.Error()} }
