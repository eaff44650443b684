// The key set of go-oidc, on go-jose, with its default settings. See drill.py for what it reads and
// writes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

type figures struct {
	Verified    int            `json:"verified"`
	Keys        int            `json:"keys"`
	RefusedJunk int            `json:"refused_junk"`
	LongestWait int64          `json:"longest_wait_ms"`
	Failed      map[string]int `json:"failed"`
}

func main() {
	jwks, issuer, audience := os.Args[1], os.Args[2], os.Args[3]
	ctx := context.Background()
	algorithms := []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}
	supported := make([]string, len(algorithms))
	for i, algorithm := range algorithms {
		supported[i] = string(algorithm)
	}
	config := &oidc.Config{ClientID: audience, SupportedSigningAlgs: supported}
	verifier := oidc.NewVerifier(issuer, oidc.NewRemoteKeySet(ctx, jwks), config)

	seen := figures{Failed: map[string]int{}}
	kids := map[string]bool{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		issued, token, _ := strings.Cut(rest, " ")
		_, err := verifier.Verify(ctx, token)
		switch {
		case kind == "watch" && err != nil:
			fmt.Println(err)
		case kind == "watch":
			fmt.Println("accepted")
		case kind == "junk" && err != nil:
			seen.RefusedJunk++
		case kind == "junk":
			seen.Failed["junk was accepted"]++
		case err != nil:
			seen.Failed[err.Error()]++
		default:
			seen.Verified++
			at, _ := strconv.ParseInt(issued, 10, 64)
			seen.LongestWait = max(seen.LongestWait, time.Now().UnixMilli()-at)
			if parsed, err := jose.ParseSigned(token, algorithms); err == nil {
				kids[parsed.Signatures[0].Header.KeyID] = true
			}
		}
	}
	seen.Keys = len(kids)
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		panic(err)
	}
}
