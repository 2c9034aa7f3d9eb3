package ctlport

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a control port on loopback and returns its address.
func serve(t *testing.T, cfg Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(ln, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// talk sends one command and returns the whole answer.
func talk(t *testing.T, addr, send string, halfClose bool) string {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	if halfClose {
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", send, err)
	}
	return string(b)
}

// TestText proves how a text command ends, and what is answered.
func TestText(t *testing.T) {
	addr := serve(t, Config{Command: Commands("Version 1")})
	tests := []struct {
		name, send string
		halfClose  bool
		want       string
	}{
		{"LF", "VERSION\n", false, "Version 1\n"},
		{"CRLF", "version\r\n", false, "Version 1\n"},
		{"NUL", "VERSION\x00junk", false, "Version 1\n"},
		{"half-close", "VERSION", true, "Version 1\n"},
		{"silence", "VERSION", false, "Version 1\n"},
		{"more words", "VERSION x y\n", false, "Version 1\n"},
		{"two commands", "VERSION\nALLSTATUS\n", false, "Version 1\n"},
		{"unknown", "Foo bar\n", false, "Unknown command(Foo)\n"},
		{"leading blank", " VERSION\n", false, "Unknown command()\n"},
		{"looks like HTTP for a while", "GETX\n", false, "Unknown command(GETX)\n"},
		{"a method alone", "GET", false, "Unknown command(GET)\n"},
		{"nothing", "", true, ""},
		{"first byte NUL", "\x00VERSION", false, ""},
		{"too long", strings.Repeat("B", 9000), false, "Unknown command(" + strings.Repeat("B", 8191) + ")\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := talk(t, addr, tc.send, tc.halfClose); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestHTTP proves what is answered over HTTP, and that browsers led here by
// other pages get nothing.
func TestHTTP(t *testing.T) {
	addr := serve(t, Config{Status: func() any { return map[string]int{"epoch": 7} }})
	tests := []struct {
		name, send string
		code       int
		body       string
	}{
		{"status", "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 200, `{"epoch":7}`},
		{"head", "HEAD /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		{"other path", "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 404, `{"error":"no such resource: /v2"}`},
		{"post", "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 405, `{"error":"only GET and HEAD are allowed"}`},
		{"origin", "GET /v1/status HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\n\r\n", 403, `{"error":"requests with an Origin are refused"}`},
		{"empty origin", "GET /v1/status HTTP/1.1\r\nHost: x\r\nOrigin:\r\n\r\n", 403, `{"error":"requests with an Origin are refused"}`},
		{"foreign site", "GET /v1/status HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403, `{"error":"requests from other sites are refused"}`},
		{"garbage", "GET /\r\n\r\n", 400, ""},
		{"endless head", "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 9000) + "\r\n\r\n", 400, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, addr)
			if _, err := io.WriteString(c, tc.send); err != nil {
				t.Fatal(err)
			}
			req := &http.Request{Method: strings.Fields(tc.send)[0]}
			resp, err := http.ReadResponse(bufio.NewReader(c), req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.code || tc.body != "" && strings.TrimSpace(string(b)) != tc.body {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, b, tc.code, tc.body)
			}
			if len(b) > 0 && !json.Valid(b) {
				t.Errorf("no JSON: %q", b)
			}
		})
	}
}

// TestSplitRequest proves that an HTTP request that arrives byte by byte is one.
func TestSplitRequest(t *testing.T) {
	addr := serve(t, Config{Status: func() any { return 1 }})
	c := dial(t, addr)
	if err := c.SetNoDelay(true); err != nil {
		t.Fatal(err)
	}
	for _, b := range []byte("GET /v1/status HTTP/1.1\r\n\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("got %s", resp.Status)
	}
}

// TestDenied proves that a host that is not allowed is closed unread: no
// command of it is executed.
func TestDenied(t *testing.T) {
	ran := make(chan string, 1)
	addr := serve(t, Config{
		Allowed: func(net.Addr) bool { return false },
		Command: func(c Command) string { ran <- c.Name; return "x" },
	})
	c := dial(t, addr)
	_, _ = io.WriteString(c, "VERSION\n") // may fail: the other side closes at once
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("answered %q", b)
	}
	select {
	case name := <-ran:
		t.Errorf("executed %s", name)
	default:
	}
}

// TestSlowClients proves that silent clients hold up nobody, and that there is
// a limit to them.
func TestSlowClients(t *testing.T) {
	addr := serve(t, Config{Command: Commands("Version 1")})
	for range connsMax - 1 {
		dial(t, addr)
	}
	if got := talk(t, addr, "VERSION\n", false); got != "Version 1\n" {
		t.Errorf("beside silent clients: %q", got)
	}
}

// FuzzParseCommand proves that no line makes the parser panic and that its
// words are the line's.
func FuzzParseCommand(f *testing.F) {
	f.Add([]byte("SERVICEOUT host:8021\tx"))
	f.Add([]byte(" \x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		c := ParseCommand(line)
		s, _, _ := strings.Cut(string(line), "\x00")
		if !strings.HasPrefix(s, c.Word) || c.Name != strings.ToUpper(c.Word) {
			t.Errorf("%q: word %q, name %q", line, c.Word, c.Name)
		}
		if n := len(c.Word) + len(strings.Join(c.Args, " ")) + min(1, len(c.Args)); n != len(s) {
			t.Errorf("%q: words have %d bytes, the line %d", line, n, len(s))
		}
	})
}
