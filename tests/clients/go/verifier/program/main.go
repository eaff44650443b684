// Program runs the verifier for tests/clients/shared/verifier_drill.py, which describes its lines.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/credentials/insecure"

	"keyward/clients/verifier"
)

func setting(name string) string { return os.Getenv("KEYWARD_" + name) }

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tokens, err := verifier.New(verifier.Settings{Issuer: setting("ISSUER"), Audience: setting("AUDIENCE")})
	if err != nil {
		log.Fatal(err)
	}
	server := verifier.Server{
		Target:       setting("TARGET"),
		ClientID:     setting("CLIENT_ID"),
		ClientSecret: setting("CLIENT_SECRET"),
		TLS:          insecure.NewCredentials(),
	}
	if err := tokens.Follow(ctx, server, 30*time.Second); err != nil {
		log.Fatal(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(answer(tokens, strings.Fields(lines.Text())))
	}
}

func answer(tokens *verifier.Verifier, question []string) string {
	switch question[0] {
	case "ready":
		return "ready"
	case "measure":
		count, err := strconv.Atoi(question[1])
		if err != nil {
			log.Fatal(err)
		}
		began := time.Now()
		for range count {
			if _, err := tokens.Verify(question[2]); err != nil {
				log.Fatal(err)
			}
		}
		return strconv.FormatInt(time.Since(began).Microseconds()/int64(count), 10)
	}
	_, err := tokens.Verify(question[1])
	var refused *verifier.Refused
	if errors.As(err, &refused) {
		return string(refused.Reason)
	}
	return "accepted"
}
