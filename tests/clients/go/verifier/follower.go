package verifier

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	accessv1 "keyward/access/v1"
	tokenv1 "keyward/token/v1"
)

const (
	callTimeout = 5 * time.Second
	// silence is how long no message may come: the server sends one each second.
	silence    = 3 * time.Second
	maxPause   = 2 * time.Second
	forgetEach = time.Minute
)

// Server says where Keyward is, and has the credential: of an application of `system` with the scope `keyward.verify`.
type Server struct {
	// Target is an address such as keyward.internal:50051.
	Target                 string
	ClientID, ClientSecret string
	// TLS is insecure.NewCredentials() only on loopback, and in networks that are protected themselves.
	TLS credentials.TransportCredentials
}

// follower follows keys and revocations. One session is one connection with both streams. It ends when one of them
// does, after a silence, and before its access token expires; the next one continues from the cursor.
type follower struct {
	server   Server
	verifier *Verifier
	// started is the wall clock at the start. Setting the clock ahead must not remove revocations.
	started time.Time
	forgot  time.Duration
	// trouble is why revocations are not followed. Logged when it changes.
	trouble codes.Code
}

// run follows until the context ends.
func (f *follower) run(ctx context.Context) {
	pause := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := f.verifier.monotonic()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		// OutOfRange: CURSOR_TOO_OLD. InvalidArgument: the cursor is of something else.
		code := status.Code(err)
		if code != f.trouble {
			slog.WarnContext(ctx, "revocations are not followed", "cause", err)
		}
		f.trouble = code
		var broken *feedError
		if code == codes.OutOfRange || code == codes.InvalidArgument || errors.As(err, &broken) {
			f.verifier.feed.lose()
		}
		if f.verifier.monotonic()-began > 10*time.Second {
			pause = 50 * time.Millisecond
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// session returns nil when the access token should be renewed.
func (f *follower) session(ctx context.Context) error {
	// A connection of its own, so that each session may reach another server behind the name.
	connection, err := grpc.NewClient(f.server.Target, grpc.WithTransportCredentials(f.server.TLS))
	if err != nil {
		return err
	}
	defer connection.Close()
	asked := f.verifier.monotonic()
	token, err := f.token(ctx, connection)
	if err != nil {
		return err
	}
	renewIn := asked + token.ExpiresIn.AsDuration()*4/5 - f.verifier.monotonic()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	authorized := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token.AccessToken)

	cursor := f.verifier.feed.begin()
	asked = f.verifier.monotonic()
	revocations, err := accessv1.NewRevocationServiceClient(connection).WatchRevocations(
		authorized, &accessv1.WatchRevocationsRequest{Cursor: cursor})
	if err != nil {
		return err
	}
	keys, err := accessv1.NewKeyServiceClient(connection).WatchJwks(authorized, &accessv1.WatchJwksRequest{})
	if err != nil {
		return err
	}
	messages, sets := received(ctx, revocations), received(ctx, keys)
	return f.follow(ctx, messages, sets, asked, time.After(renewIn))
}

func (f *follower) token(ctx context.Context, connection *grpc.ClientConn) (*tokenv1.IssueTokenResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	secret := &tokenv1.ClientSecret{ClientId: f.server.ClientID, ClientSecret: f.server.ClientSecret}
	return tokenv1.NewTokenServiceClient(connection).IssueToken(ctx, &tokenv1.IssueTokenRequest{
		Credential: &tokenv1.IssueTokenRequest_ClientSecret{ClientSecret: secret},
		Scopes:     []string{"keyward.verify"},
		Audiences:  []string{"keyward"},
	})
}

func (f *follower) follow(
	ctx context.Context,
	messages <-chan item[accessv1.WatchRevocationsResponse],
	sets <-chan item[accessv1.WatchJwksResponse],
	asked time.Duration,
	renew <-chan time.Time,
) error {
	quiet, noKeys := time.NewTimer(silence), time.NewTimer(silence)
	defer quiet.Stop()
	defer noKeys.Stop()
	// The first message is not older than its request, and no other is older than its arrival.
	arrived, isFirst := asked, true
	for {
		select {
		case <-renew:
			return nil
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			return errors.New("the server sends no messages")
		case <-noKeys.C:
			return errors.New("the server sends no keys")
		case set := <-sets:
			if set.err != nil {
				return set.err
			}
			if err := f.verifier.takeKeys(set.message.Jwks); err != nil {
				return err
			}
			noKeys.Stop()
		case next := <-messages:
			if next.err != nil {
				return next.err
			}
			now := f.verifier.monotonic()
			if now-arrived > silence {
				// This process may have been suspended, and the message is as old as the pause.
				return errors.New("the stream was not read for a while")
			}
			sent := now
			if isFirst {
				sent = asked
			}
			if err := f.verifier.feed.take(next.message, sent); err != nil {
				return err
			}
			arrived, isFirst, f.trouble = now, false, codes.OK
			quiet.Reset(silence)
			f.forget(now)
		}
		f.verifier.noteProgress()
	}
}

func (f *follower) forget(now time.Duration) {
	if now > f.forgot+forgetEach {
		f.verifier.feed.forget(f.started.Add(now))
		f.forgot = now
	}
}

// item is a message of a stream, or the error that ended it.
type item[T any] struct {
	message *T
	err     error
}

// received reads a stream, until its context ends.
func received[T any](ctx context.Context, stream grpc.ServerStreamingClient[T]) <-chan item[T] {
	items := make(chan item[T])
	go func() {
		for {
			message, err := stream.Recv()
			if err == io.EOF {
				err = errors.New("the server ended a stream")
			}
			select {
			case items <- item[T]{message, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return items
}
