// Exchanges a client's secret for tokens at a fixed rate, whatever the server's answers take, and writes
// each as a line: the time of the answer in milliseconds since 1970, and the token. The last line are
// the figures, in JSON.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const patience = 10 * time.Second

type load struct {
	url, id, secret string
	client          *http.Client

	mutex     sync.Mutex
	out       *bufio.Writer
	failed    map[string]int
	durations []time.Duration
}

func (l *load) exchange() (string, error) {
	request, err := http.NewRequest("POST", l.url, strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(l.id, l.secret)
	answer, err := l.client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK || body.AccessToken == "" {
		return "", fmt.Errorf("%d %s", answer.StatusCode, body.Error)
	}
	return body.AccessToken, nil
}

func (l *load) one() {
	began := time.Now()
	token, err := l.exchange()
	took := time.Since(began)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if err != nil {
		l.failed[err.Error()]++
		return
	}
	l.durations = append(l.durations, took)
	fmt.Fprintln(l.out, time.Now().UnixMilli(), token)
}

// A token must not wait in the buffer for the next ones.
func (l *load) flush() {
	for range time.Tick(10 * time.Millisecond) {
		l.mutex.Lock()
		l.out.Flush()
		l.mutex.Unlock()
	}
}

func main() {
	url := flag.String("url", "", "the token endpoint")
	rate := flag.Int("rate", 100, "tokens a second")
	seconds := flag.Float64("seconds", 10, "how long")
	flag.Parse()
	l := &load{
		url:    *url,
		id:     os.Getenv("KEYWARD_CLIENT_ID"),
		secret: os.Getenv("KEYWARD_CLIENT_SECRET"),
		client: &http.Client{
			Timeout:   patience,
			Transport: &http.Transport{MaxIdleConnsPerHost: 32, MaxConnsPerHost: 32},
		},
		out:    bufio.NewWriterSize(os.Stdout, 1<<16),
		failed: map[string]int{},
	}
	go l.flush()

	var running sync.WaitGroup
	count := int(float64(*rate) * *seconds)
	began := time.Now()
	for i := range count {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(*rate))))
		running.Go(l.one)
	}
	running.Wait()
	took := time.Since(began)

	l.mutex.Lock()
	slices.Sort(l.durations)
	p99 := 0.0
	if len(l.durations) > 0 {
		p99 = float64(l.durations[len(l.durations)*99/100].Microseconds()) / 1000
	}
	figures := map[string]any{
		"issued":     len(l.durations),
		"per_second": int(float64(len(l.durations)) / took.Seconds()),
		"p99_ms":     p99,
		"failed":     l.failed,
	}
	if err := json.NewEncoder(l.out).Encode(figures); err != nil {
		panic(err)
	}
	l.out.Flush()
}
