package verifier

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxProofLength = 8 * 1024
	maxProofAge    = 70
	maxProofAhead  = 10
)

var (
	proofAlgorithms = []string{"ES256", "ES384", "EdDSA", "PS256", "RS256"}
	urlForm         = regexp.MustCompile(
		`^(?i)(https?)://(\[[0-9a-f:.]+\]|[^:/?#@%\[\]]+)(?::([0-9]*))?(/[^?#]*)?(?:[?#].*)?$`)
	uriCharacters = regexp.MustCompile(`^[!#-;=?-Z\[\]_a-z~]*$`)
	escape        = regexp.MustCompile(`%.?.?`)
	unreserved    = regexp.MustCompile(`^[A-Za-z0-9._~-]$`)
	ports         = map[string]int{"http": 80, "https": 443}
)

// DPoPProof is the value of the header `DPoP`, and the request that it must be for. URL is the URL as the client sees
// it: what the service is configured with, and never the header `Host`. Refuse a request with two such headers.
type DPoPProof struct {
	Proof, Method, URL string
}

// Sender is what came with the token (DPoP, RFC 9449; client certificates, RFC 8705). A proof counts only with
// `Authorization: DPoP`. A verifier does not remember proofs: within 70 s one can be used again for the same request
// and token.
type Sender struct {
	// Certificate is the client certificate of the connection, in DER.
	Certificate []byte
	DPoP        *DPoPProof
}

// require refuses a sender that did not prove to have all that the token is bound to.
func (s Sender) require(bound *Verified, token string, now time.Time) error {
	var key *string
	if s.DPoP != nil {
		proven, err := s.DPoP.check(token, now.Unix())
		if err != nil {
			return &Refused{Reason: InvalidProof, Detail: err.Error()}
		}
		key = &proven
	}
	wanted := bound.boundKey
	switch {
	case wanted != nil && key == nil:
		return refuse(ProofRequired)
	case wanted == nil && key != nil:
		// The client wanted the token to be bound (RFC 9449, section 7.1).
		return refuse(NotBoundToKey)
	case wanted != nil && *wanted != *key:
		return refuse(OtherKey)
	case bound.boundCertificate == nil:
		return nil
	case s.Certificate == nil:
		return refuse(CertificateRequired)
	case *bound.boundCertificate != hash(s.Certificate):
		return refuse(OtherCertificate)
	}
	return nil
}

// check returns the thumbprint of the key that signed the proof.
func (p *DPoPProof) check(token string, now int64) (string, error) {
	parts := strings.Split(p.Proof, ".")
	if len(p.Proof) > maxProofLength || len(parts) != 3 {
		return "", errors.New("not a proof")
	}
	header, err := decodeObject(parts[0])
	if err != nil {
		return "", err
	}
	claims, err := decodeObject(parts[1])
	if err != nil {
		return "", err
	}
	signature, err := decode(parts[2])
	if err != nil {
		return "", err
	}
	key, err := proofKey(header)
	if err != nil {
		return "", err
	}
	if !key.verifies([]byte(parts[0]+"."+parts[1]), signature) {
		return "", errors.New("the signature is wrong")
	}
	r := &claimReader{claims: claims}
	id, method, url, tokenHash := r.text("jti"), r.text("htm"), r.text("htu"), r.text("ath")
	if r.err != nil {
		return "", r.err
	}
	if len(id) < 1 || len(id) > 256 {
		return "", errors.New("jti has another length")
	}
	if method != p.Method {
		return "", errors.New("htm is another method")
	}
	if err := sameURL(url, p.URL); err != nil {
		return "", err
	}
	if err := checkProofTimes(claims, now); err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare([]byte(tokenHash), []byte(hash([]byte(token)))) == 0 {
		return "", errors.New("ath is the hash of another token")
	}
	return key.thumbprint, nil
}

func proofKey(header object) (*publicKey, error) {
	typ, err := header.text("typ")
	if err != nil {
		return nil, err
	}
	algorithm, err := header.text("alg")
	if err != nil {
		return nil, err
	}
	algorithm = normal(algorithm)
	short := strings.TrimPrefix(strings.ToLower(typ), "application/")
	if short != "dpop+jwt" || header.has("crit", "b64") || !slices.Contains(proofAlgorithms, algorithm) {
		return nil, errors.New("the header is not that of a proof")
	}
	jwk, ok := header["jwk"].(map[string]any)
	if !ok {
		return nil, errors.New("the key is no object")
	}
	return parseKey(jwk, algorithm)
}

func checkProofTimes(claims object, now int64) error {
	times := map[string]float64{"nbf": 0, "exp": float64(now + 1)}
	for _, name := range []string{"iat", "nbf", "exp"} {
		if !claims.has(name) && name != "iat" {
			continue
		}
		number, _ := claims[name].(json.Number)
		seconds, err := number.Float64()
		if err != nil || seconds < 0 {
			return fmt.Errorf("%s is no time", name)
		}
		times[name] = seconds
	}
	if max(times["iat"], times["nbf"]) > float64(now+maxProofAhead) {
		return errors.New("the proof is from the future")
	}
	if times["iat"]+maxProofAge <= float64(now) || times["exp"] <= float64(now) {
		return errors.New("the proof is too old")
	}
	return nil
}

func sameURL(claimed, expected string) error {
	one, err := normalURL(claimed)
	if err != nil {
		return err
	}
	if other, err := normalURL(expected); err != nil || one != other {
		return errors.New("htu is another URL")
	}
	return nil
}

// normalURL returns the URL without query and fragment, in one spelling (RFC 3986, sections 6.2.2 and 6.2.3).
func normalURL(url string) (string, error) {
	parts := urlForm.FindStringSubmatch(url)
	if parts == nil || !uriCharacters.MatchString(url) {
		return "", errors.New("not the URL of a request")
	}
	scheme, authority, path := strings.ToLower(parts[1]), strings.ToLower(parts[2]), parts[4]
	if parts[3] != "" {
		port, err := strconv.ParseUint(parts[3], 10, 16)
		if err != nil {
			return "", err
		}
		if int(port) != ports[scheme] {
			authority = fmt.Sprintf("%s:%d", authority, port)
		}
	}
	var broken error
	path = escape.ReplaceAllStringFunc(path, func(escaped string) string {
		code, err := strconv.ParseUint(escaped[1:], 16, 8)
		if err != nil || len(escaped) != 3 {
			broken = errors.New("a percent sign starts no encoding")
			return ""
		}
		// A character that needs no encoding has none.
		if character := string(rune(code)); unreserved.MatchString(character) {
			return character
		}
		return strings.ToUpper(escaped)
	})
	return scheme + "://" + authority + withoutDotSegments(path), broken
}

func withoutDotSegments(path string) string {
	var kept []string
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for _, segment := range segments {
		switch segment {
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		case ".":
		default:
			kept = append(kept, segment)
		}
	}
	if last := segments[len(segments)-1]; last == "." || last == ".." {
		kept = append(kept, "")
	}
	return "/" + strings.Join(kept, "/")
}
