package verifier

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"unicode/utf8"
)

// Signatures and keys: the part of RFC 7515 and 7517 that tokens and proofs need.

var base64url = base64.RawURLEncoding.Strict()

// decode decodes base64url without padding. Each value has one form only.
func decode(text string) ([]byte, error) {
	// The decoder ignores line ends.
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("not base64url")
	}
	return base64url.DecodeString(text)
}

// object is a JSON object. Structs would take members in upper case, too.
type object map[string]any

func parseObject(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var parsed object
	if err := decoder.Decode(&parsed); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF || parsed == nil {
		return nil, errors.New("not a JSON object")
	}
	return parsed, nil
}

// decodeObject decodes a part of a token.
func decodeObject(part string) (object, error) {
	data, err := decode(part)
	if err != nil {
		return nil, err
	}
	return parseObject(data)
}

func (o object) text(name string) (string, error) {
	text, ok := o[name].(string)
	if !ok {
		return "", fmt.Errorf("%s is no text", name)
	}
	return text, nil
}

// has reports whether one of the members is there, whatever its value.
func (o object) has(names ...string) bool {
	for _, name := range names {
		if _, ok := o[name]; ok {
			return true
		}
	}
	return false
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return base64url.EncodeToString(sum[:])
}

// publicKey is a key for one algorithm.
type publicKey struct {
	algorithm  string
	thumbprint string
	verifies   func(message, signature []byte) bool
}

// normal returns the old name of Ed25519, which has a new one by RFC 9864.
func normal(algorithm string) string {
	if algorithm == "Ed25519" {
		return "EdDSA"
	}
	return algorithm
}

// parseKey reads a key for this algorithm. It fails if the key is invalid, or for something else.
func parseKey(jwk object, algorithm string) (*publicKey, error) {
	if jwk.has("d", "p", "q", "dp", "dq", "qi", "oth", "k") {
		return nil, errors.New("the key has private members")
	}
	usage, isText := jwk["use"].(string)
	if jwk.has("use") && (!isText || usage != "sig") {
		return nil, errors.New("the key is for something else")
	}
	only, isText := jwk["alg"].(string)
	if jwk.has("alg") && (!isText || normal(only) != algorithm) {
		return nil, errors.New("the key is for another algorithm")
	}
	key := &publicKey{algorithm: algorithm}
	var err error
	switch {
	case algorithm == "ES256" && jwk["kty"] == "EC" && jwk["crv"] == "P-256":
		key.verifies, err = ecKey(jwk, elliptic.P256(), func(m []byte) []byte { s := sha256.Sum256(m); return s[:] })
		key.thumbprint = thumbprint(jwk, "crv", "kty", "x", "y")
	case algorithm == "ES384" && jwk["kty"] == "EC" && jwk["crv"] == "P-384":
		key.verifies, err = ecKey(jwk, elliptic.P384(), func(m []byte) []byte { s := sha512.Sum384(m); return s[:] })
		key.thumbprint = thumbprint(jwk, "crv", "kty", "x", "y")
	case algorithm == "EdDSA" && jwk["kty"] == "OKP" && jwk["crv"] == "Ed25519":
		key.verifies, err = ed25519Key(jwk)
		key.thumbprint = thumbprint(jwk, "crv", "kty", "x")
	case (algorithm == "PS256" || algorithm == "RS256") && jwk["kty"] == "RSA":
		key.verifies, err = rsaKey(jwk, algorithm)
		key.thumbprint = thumbprint(jwk, "e", "kty", "n")
	default:
		err = errors.New("the key is for another algorithm")
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

// thumbprint hashes these members, which are in lexical order (RFC 7638).
func thumbprint(jwk object, names ...string) string {
	members := make([]string, len(names))
	for i, name := range names {
		members[i] = fmt.Sprintf("%q:%q", name, jwk[name])
	}
	return hash([]byte("{" + strings.Join(members, ",") + "}"))
}

func ecKey(jwk object, curve elliptic.Curve, digest func([]byte) []byte) (func(message, signature []byte) bool, error) {
	size := (curve.Params().BitSize + 7) / 8
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		coordinate, err := jwk.bytes(name)
		if err != nil || len(coordinate) != size {
			return nil, errors.New("not a point of this curve")
		}
		point = append(point, coordinate...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, err
	}
	return func(message, signature []byte) bool {
		if len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		return ecdsa.Verify(key, digest(message), r, s)
	}, nil
}

func ed25519Key(jwk object) (func(message, signature []byte) bool, error) {
	x, err := jwk.bytes("x")
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("not an Ed25519 key")
	}
	return func(message, signature []byte) bool { return ed25519.Verify(x, message, signature) }, nil
}

func rsaKey(jwk object, algorithm string) (func(message, signature []byte) bool, error) {
	n, err := jwk.bytes("n")
	if err != nil {
		return nil, err
	}
	e, err := jwk.bytes("e")
	if err != nil || len(e) > 4 {
		return nil, errors.New("not an accepted exponent")
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := key.N.BitLen(); bits < 2048 || bits > 8192 {
		return nil, errors.New("the RSA key has another size")
	}
	options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
	return func(message, signature []byte) bool {
		digest := sha256.Sum256(message)
		if algorithm == "PS256" {
			return rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, options) == nil
		}
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}, nil
}

func (o object) bytes(name string) ([]byte, error) {
	text, err := o.text(name)
	if err != nil {
		return nil, err
	}
	return decode(text)
}
