package verifier

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Access tokens (RFC 9068): their form, signature, claims and times.

const (
	maxLength = 6 * 1024
	// maxAhead is how far ahead the clock of the server may be, in seconds.
	maxAhead = 60
)

// Verified has the claims of a verified token.
type Verified struct {
	Tenant      string
	Application string
	ClientID    string
	TokenID     string
	Scopes      []string
	Roles       []string
	Audiences   []string
	IssuedAt    time.Time
	ExpiresAt   time.Time

	keyID string
	// What the token is bound to: the thumbprints of a key and of a certificate.
	boundKey, boundCertificate *string
	parents                    []parent
}

// parent is what a token rests on: the client that it was issued to, or in an exchanged token one of several.
type parent struct {
	subject, clientID, tokenID, keyID string
	// epochs are those of tenant, application and credential.
	epochs [3]int64
}

// HasScopes reports whether the token has all these scopes.
func (v *Verified) HasScopes(scopes ...string) bool {
	for _, scope := range scopes {
		if !slices.Contains(v.Scopes, scope) {
			return false
		}
	}
	return true
}

type keySet map[string]*publicKey

// parseKeys reads the keys of a set, by `kid`. Those of a newer server that are not known here are skipped.
func parseKeys(jwks string) (keySet, error) {
	set, err := parseObject([]byte(jwks))
	if err != nil {
		return nil, err
	}
	elements, ok := set["keys"].([]any)
	if !ok {
		return nil, errors.New("not a key set")
	}
	keys := keySet{}
	for _, element := range elements {
		members, _ := element.(map[string]any)
		jwk := object(members)
		kid, noKid := jwk.text("kid")
		algorithm, noAlgorithm := jwk.text("alg")
		if noKid != nil || noAlgorithm != nil || algorithm == "ES384" {
			continue
		}
		if key, err := parseKey(jwk, algorithm); err == nil {
			keys[kid] = key
		}
	}
	return keys, nil
}

// read verifies all of a token except its audience, what it is bound to, and revocation.
func read(token string, keys keySet, issuer string, now time.Time) (*Verified, error) {
	parts := strings.Split(token, ".")
	if len(token) > maxLength || len(parts) != 3 {
		return nil, refuse(Malformed)
	}
	header, err := decodeObject(parts[0])
	if err != nil {
		return nil, malformed(err)
	}
	signature, err := decode(parts[2])
	if err != nil {
		return nil, malformed(err)
	}
	keyID, key, err := named(header, keys)
	if err != nil {
		return nil, err
	}
	message := token[:strings.LastIndexByte(token, '.')]
	if !key.verifies([]byte(message), signature) {
		return nil, refuse(BadSignature)
	}
	claims, err := decodeObject(parts[1])
	if err != nil {
		return nil, malformed(err)
	}
	verified, err := readClaims(claims, keyID)
	if err != nil {
		return nil, malformed(err)
	}
	if claims["iss"] != issuer {
		return nil, refuse(WrongIssuer)
	}
	return verified, verified.checkTime(now)
}

func (v *Verified) checkTime(now time.Time) error {
	if v.ExpiresAt.Unix() <= now.Unix() {
		return refuse(Expired)
	}
	if v.IssuedAt.Unix() > now.Unix()+maxAhead {
		return refuse(NotYetValid)
	}
	return nil
}

// named returns the key that the header names. Keys and addresses in the header (`jwk`, `jku`) do not count.
func named(header object, keys keySet) (string, *publicKey, error) {
	algorithm, err := header.text("alg")
	if err != nil {
		return "", nil, malformed(err)
	}
	keyID, isText := header["kid"].(string)
	if header.has("kid") && !isText {
		return "", nil, refuse(Malformed)
	}
	if header["typ"] != "at+jwt" || header.has("crit") {
		return "", nil, refuse(WrongType)
	}
	key := keys[keyID]
	if key == nil {
		return "", nil, refuse(UnknownKey)
	}
	if key.algorithm != algorithm {
		return "", nil, refuse(BadSignature)
	}
	return keyID, key, nil
}

// claimReader reads claims, and keeps the first error.
type claimReader struct {
	claims object
	err    error
}

func (r *claimReader) fail(name string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s is missing, or of another type", name)
	}
}

func (r *claimReader) text(name string) string {
	text, err := r.claims.text(name)
	if err != nil {
		r.fail(name)
	}
	return text
}

func (r *claimReader) optionalText(name string) *string {
	if r.claims[name] == nil {
		return nil
	}
	text := r.text(name)
	return &text
}

func (r *claimReader) integer(name string, value any) int64 {
	number, ok := value.(json.Number)
	integer, err := number.Int64()
	if !ok || err != nil {
		r.fail(name)
	}
	return integer
}

func (r *claimReader) texts(name string) []string {
	if r.claims[name] == nil {
		return nil
	}
	elements, ok := r.claims[name].([]any)
	if !ok {
		r.fail(name)
	}
	texts := make([]string, len(elements))
	for i, element := range elements {
		if texts[i], ok = element.(string); !ok {
			r.fail(name)
		}
	}
	return texts
}

func (r *claimReader) epochs() (epochs [3]int64) {
	elements, _ := r.claims["epochs"].([]any)
	if len(elements) != len(epochs) {
		r.fail("epochs")
		return epochs
	}
	for i, element := range elements {
		epochs[i] = r.integer("epochs", element)
	}
	return epochs
}

// only fails if there is a member that is not known, which cannot be checked.
func (r *claimReader) only(known ...string) {
	for name := range r.claims {
		if !slices.Contains(known, name) {
			r.fail(name)
		}
	}
}

// inside reads an object within the claims. An object that is missing is empty.
func (r *claimReader) inside(name string) *claimReader {
	members, ok := r.claims[name].(map[string]any)
	if !ok && r.claims[name] != nil {
		r.fail(name)
	}
	return &claimReader{claims: members}
}

func readClaims(claims object, keyID string) (*Verified, error) {
	r := &claimReader{claims: claims}
	r.text("iss")
	verified := &Verified{
		Tenant:      r.text("tenant"),
		Application: r.text("sub"),
		ClientID:    r.text("client_id"),
		TokenID:     r.text("jti"),
		Scopes:      strings.Fields(r.text("scope")),
		Roles:       r.texts("roles"),
		IssuedAt:    time.Unix(r.integer("iat", claims["iat"]), 0),
		ExpiresAt:   time.Unix(r.integer("exp", claims["exp"]), 0),
		keyID:       keyID,
	}
	switch audience := claims["aud"].(type) {
	case string:
		verified.Audiences = []string{audience}
	case []any:
		verified.Audiences = r.texts("aud")
	default:
		r.fail("aud")
	}
	bound := r.inside("cnf")
	bound.only("jkt", "x5t#S256")
	verified.boundKey = bound.optionalText("jkt")
	verified.boundCertificate = bound.optionalText("x5t#S256")
	r.inside("act")
	parents, err := r.parents(verified)
	verified.parents = parents
	return verified, errors.Join(r.err, bound.err, err)
}

// parents returns all that the token rests on, itself included.
func (r *claimReader) parents(token *Verified) ([]parent, error) {
	if r.claims["parents"] == nil {
		own := parent{token.Application, token.ClientID, token.TokenID, token.keyID, r.epochs()}
		return []parent{own}, nil
	}
	chain, _ := r.claims["parents"].([]any)
	if r.claims["epochs"] != nil || len(chain) < 2 {
		return nil, errors.New("parents in place of epochs")
	}
	parents := make([]parent, len(chain), len(chain)+1)
	for i, element := range chain {
		members, ok := element.(map[string]any)
		if !ok {
			return nil, errors.New("a parent is no object")
		}
		p := &claimReader{claims: members}
		p.only("sub", "client_id", "epochs", "jti", "kid", "actor")
		parents[i] = parent{subject: p.text("sub"), clientID: p.text("client_id"), epochs: p.epochs()}
		if id := p.optionalText("jti"); id != nil {
			parents[i].tokenID = *id
		}
		if id := p.optionalText("kid"); id != nil {
			parents[i].keyID = *id
		}
		if p.err != nil {
			return nil, p.err
		}
	}
	last := parents[len(parents)-1]
	if parents[0].subject != token.Application || last.clientID != token.ClientID {
		return nil, errors.New("parents of another token")
	}
	last.tokenID, last.keyID = token.TokenID, token.keyID
	return append(parents, last), nil
}
