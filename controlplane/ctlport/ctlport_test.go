package ctlport

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chmpx/chmpx/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end at once when all is well.
const patience = 2 * time.Minute

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
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
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
	addr := serve(t, Config{Command: answers(false)})
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
		{"unknown with foreign bytes", "V\xffX\n", false, "Unknown command(V\xffX)\n"},
		{"leading and doubled separators", " \t VERSION\t\t x \n", false, "Version 1\n"},
		{"empty line", "\n", false, "Unknown command()\n"},
		{"blanks only", "  ", true, "Unknown command()\n"},
		{"looks like HTTP for a while", "GETX\n", false, "Unknown command(GETX)\n"},
		{"a method alone", "GET", false, "Unknown command(GET)\n"},
		{"nothing", "", true, ""},
		{"first byte NUL", "\x00VERSION", false, ""},
		{"longest", "VERSION " + strings.Repeat("x", 8183) + "\n", false, "Version 1\n"},
		{"too long a word", strings.Repeat("B", 9000), false, "Unknown command(" + strings.Repeat("B", 8191) + ")\n"},
		{"too long", "VERSION " + strings.Repeat("x", 9000) + "\n", false, "ERROR: Parameters are wrong.\nREASON: the command has more than 8191 bytes.\n"},
		{"too long, cut to a known word", strings.Repeat(" ", 8184) + "VERSIONS\n", false, "Unknown command(VERSION)\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := talk(t, addr, tc.send, tc.halfClose); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestOpen proves that a command learns how many connections there are.
func TestOpen(t *testing.T) {
	addr := serve(t, Config{Command: answers(false)})
	if got := talk(t, addr, "COUNT\n", false); got != "1\n" {
		t.Errorf("got %q", got)
	}
}

// TestHTTP proves what is answered over HTTP, and that browsers led here by
// other pages get nothing.
func TestHTTP(t *testing.T) {
	addr := serve(t, Config{
		Status: func() any { return map[string]int{"epoch": 7} },
		Owners: func(hash uint64) Owners { return Owners{Hash: fmt.Sprint(hash)} },
		Names:  func() []string { return []string{"x"} },
		Actions: map[string]Action{"/v1/do": func(_ context.Context, body []byte) (any, error) {
			if string(body) == "{}" {
				return nil, errors.New("not so")
			}
			return string(body), nil
		}},
	})
	tests := []struct {
		name, send string
		code       int
		body       string
	}{
		{"status", "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 200, `{"epoch":7}`},
		{"head", "HEAD /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		{"owners", "GET /v1/owners?hash=0x10 HTTP/1.1\r\nHost: x\r\n\r\n", 200, `{"hash":"16","group":"","slot":0,"slots":0,"random":false,"epoch":{"era":0,"index":0},"owners":null}`},
		{"owners of what", "GET /v1/owners HTTP/1.1\r\nHost: x\r\n\r\n", 400, `{"error":"hash: a number of 64 bits is needed, as 0x1f or 31"}`},
		{"owners of nonsense", "GET /v1/owners?hash=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, `{"error":"hash: a number of 64 bits is needed, as 0x1f or 31"}`},
		{"other path", "GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 404, `{"error":"no such resource: /v2"}`},
		{"post", "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 405, `{"error":"only GET and HEAD are allowed"}`},
		{"do", "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\nX-Chmpx: 1\r\n\r\n", 200, `""`},
		{"do with a body", "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\nContent-Length: 1\r\n\r\n7", 200, `"7"`},
		{"do what fails", "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\nContent-Length: 2\r\n\r\n{}", 409, `{"error":"not so"}`},
		{"do by a form", "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nX-Chmpx: 1\r\n\r\n", 415, `{"error":"Content-Type must be application/json"}`},
		{"do without a type", "POST /v1/do HTTP/1.1\r\nHost: x\r\nX-Chmpx: 1\r\n\r\n", 415, ""},
		{"do without the header", "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n", 403, `{"error":"the header X-Chmpx: 1 is missing"}`},
		{"do by get", "GET /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\n\r\n", 405, `{"error":"only POST is allowed"}`},
		{"do with an endless body", "POST /v1/do HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("7", 9000), 400, `{"error":"the body cannot be read, or the request has more than 8191 bytes: unexpected EOF"}`},
		{"do from a foreign page", "POST /v1/do HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\nContent-Type: application/json\r\nX-Chmpx: 1\r\n\r\n", 403, ""},
		{"by address", "GET /v1/status HTTP/1.1\r\nHost: [::1]:8021\r\n\r\n", 200, `{"epoch":7}`},
		{"by name", "GET /v1/status HTTP/1.1\r\nHost: X:8021\r\n\r\n", 200, `{"epoch":7}`},
		{"foreign name", "GET /v1/status HTTP/1.1\r\nHost: evil.example:8021\r\n\r\n", 403, `{"error":"this node is not called \"evil.example:8021\"; use its address"}`},
		{"origin", "GET /v1/status HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\n\r\n", 403, `{"error":"requests with an Origin are refused"}`},
		{"empty origin", "GET /v1/status HTTP/1.1\r\nHost: x\r\nOrigin:\r\n\r\n", 403, `{"error":"requests with an Origin are refused"}`},
		{"foreign site", "GET /v1/status HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403, `{"error":"requests from other sites are refused"}`},
		{"garbage", "GET /\r\n\r\n", 400, ""},
		{"endless head", "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 9000) + "\r\n\r\n", 400, `{"error":"the request cannot be read, or has more than 8191 bytes: unexpected EOF"}`},
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
	synctest.Test(t, func(t *testing.T) { // in real time a pause between two bytes may end a word
		c, served := pipe(t, New(nil, Config{Status: func() any { return 1 }}))
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
		c.Close()
		<-served
	})
}

// TestDenied proves that a host that is not allowed is closed unread: no
// command of it is executed.
func TestDenied(t *testing.T) {
	ran := make(chan string, 1)
	addr := serve(t, Config{
		Rights:  func(context.Context, net.Addr) Rights { return Denied },
		Command: func(_ context.Context, c Command, _ int) string { ran <- c.Name; return "x" },
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

// TestSplitCommand proves that a command that arrives in pieces is one: pieces
// are put together as long as less than 200 ms pass between them.
func TestSplitCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, served := pipe(t, New(nil, Config{Command: answers(false)}))
		for _, piece := range []string{"VER", "SI", "ON", "\n"} {
			<-time.After(silenceTimeout - time.Millisecond)
			if _, err := io.WriteString(c, piece); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "Version 1\n" {
			t.Errorf("got %q, %v", b, err)
		}
		<-served
	})
}

// TestCutOff proves that who says nothing, goes on for ever without an end, or
// does not read its answer is cut off after 5 s.
func TestCutOff(t *testing.T) {
	for name, behave := range map[string]func(c net.Conn){
		"says nothing": func(net.Conn) {},
		"never ends": func(c net.Conn) {
			for range 3 * int(stepTimeout/time.Second) * 10 {
				if _, err := c.Write([]byte{'x'}); err != nil {
					return
				}
				<-time.After(100 * time.Millisecond)
			}
		},
		"does not read": func(c net.Conn) { _, _ = c.Write([]byte("VERSION\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c, served := pipe(t, New(nil, Config{Command: answers(false)}))
				if name == "never ends" {
					go io.Copy(io.Discard, c) // ends with c
				}
				behave(c)
				<-served
				// Twice: a command that took its whole time may take as long to be answered.
				if took := time.Since(start); took < stepTimeout || took > 2*stepTimeout {
					t.Errorf("cut off after %v", took)
				}
			})
		})
	}
}

// pipe lets s serve one end of a pipe; served is closed when it is done.
func pipe(t *testing.T, s *Server) (c net.Conn, served chan struct{}) {
	t.Helper()
	c, far := net.Pipe()
	served = make(chan struct{})
	go func() { defer close(served); s.serve(t.Context(), far) }() // ends at the latest when c is closed
	t.Cleanup(func() { c.Close() })
	return c, served
}

// TestSilentClients proves that silent clients hold up nobody: of more
// connections than the port has room for, the one that is silent for longest
// goes, and commands are answered.
func TestSilentClients(t *testing.T) {
	addr := serve(t, Config{Command: answers(false)})
	var silent []*net.TCPConn
	for range connsMax + 10 {
		silent = append(silent, dial(t, addr))
	}
	if got := talk(t, addr, "VERSION\n", false); got != "Version 1\n" {
		t.Errorf("beside silent clients: %q", got)
	}
	if b, err := io.ReadAll(silent[0]); err != nil || len(b) > 0 {
		t.Errorf("the oldest: %q, %v", b, err)
	}
}

// TestFull proves that a port full of clients that have begun to speak refuses
// the next one, and has room again when one has ended.
func TestFull(t *testing.T) {
	running, release := make(chan struct{}, connsMax), make(chan struct{})
	addr := serve(t, Config{Command: func(context.Context, Command, int) string {
		select {
		case running <- struct{}{}:
		default:
		}
		<-release
		return "done\n"
	}})
	for range connsMax {
		if _, err := io.WriteString(dial(t, addr), "X\n"); err != nil {
			t.Fatal(err)
		}
	}
	for range connsMax {
		select {
		case <-running:
		case <-time.After(patience):
			t.Error("not all commands run")
		}
	}
	// The refusal is an end or, if it comes while we connect, a reset.
	if b, err := io.ReadAll(dial(t, addr)); len(b) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one too many: %q, %v", b, err)
	}
	close(release)
	deadline := time.Now().Add(patience)
	for got := ""; got != "done\n"; {
		if time.Now().After(deadline) {
			t.Fatal("there is no room again")
		}
		c := dial(t, addr)
		_, _ = io.WriteString(c, "X\n") // fails, as the read does, while there is no room
		b, _ := io.ReadAll(c)
		got = string(b)
	}
}

// TestCommandEndsWithThePort proves that a command that waits for the ring does
// not hold up the end of the port.
func TestCommandEndsWithThePort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runs := make(chan struct{})
	s := New(ln, Config{Command: func(ctx context.Context, _ Command, _ int) string {
		close(runs)
		<-ctx.Done()
		return ""
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	if _, err := io.WriteString(dial(t, ln.Addr().String()), "MERGE\n"); err != nil {
		t.Fatal(err)
	}
	<-runs
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestCommands proves what servers and slaves answer to CHMPX's commands.
func TestCommands(t *testing.T) {
	const needs = "ERROR: SERVICEOUT command must have parameter as server/ctlport.(ex: \"SERVICEOUT servername.fqdn:ctlport\")\n"
	const slaves = "ERROR: The command can not be executed on the slave node.\n"
	const nobody = "SUCCEED: There no server on RING.\n"
	a := ServerRef{Host: "a", CtlPort: 8021}
	node := func(why string) string { return "ERROR: Parameters are wrong.\nREASON: " + why + "\n" }
	did := func(name string) string { return asked(Change{Name: name}).Reply(name) }
	out := func(host string) string {
		return asked(Change{Name: "SERVICEOUT", Server: ServerRef{Host: host, CtlPort: 8021}}).Reply("SERVICEOUT")
	}
	for _, tc := range []struct {
		send          string
		server, slave string
	}{
		{"ALLSTATUS", "RING Name              = G\n", "RING Name              = G\n"},
		{"servicein", did("SERVICEIN"), slaves},
		{"SERVICEIN junk", did("SERVICEIN"), slaves},
		{"SUSPENDMERGE", did("SUSPENDMERGE"), slaves},
		{"NOSUSPENDMERGE", did("NOSUSPENDMERGE"), slaves},
		{"UPDATESTATUS", did("UPDATESTATUS"), slaves},
		{"MERGE", did("MERGE"), nobody},
		{"COMPMERGE", did("COMPMERGE"), nobody},
		{"COMPMERGE force x", asked(Change{Name: "COMPMERGE", Force: true}).Reply("COMPMERGE"), nobody},
		{"COMPMERGE FORCED", did("COMPMERGE"), nobody},
		{"AbortMerge", did("ABORTMERGE"), nobody},
		{"NODEFORGET", node("NODEFORGET host:ctlport; one of both will do where only one server has it"), slaves},
		{"NODEFORGET a", asked(Change{Name: "NODEFORGET", Server: ServerRef{Host: "a"}}).Reply("NODEFORGET"), slaves},
		{"NODEFORGET 8021", asked(Change{Name: "NODEFORGET", Server: ServerRef{CtlPort: 8021}}).Reply("NODEFORGET"), slaves},
		{"NODEFORGET 0", "ERROR: There is no such as server.\nREASON: \"0\" is no port from 1 to 65535\n", slaves},
		{"NODEFORGET 99999", "ERROR: There is no such as server.\nREASON: \"99999\" is no port from 1 to 65535\n", slaves},
		{"NODEFORGET 2001:db8::1", node("NODEFORGET host:ctlport; one of both will do where only one server has it"), slaves},
		{"NODEFORGET [::1]", node("NODEFORGET host:ctlport; one of both will do where only one server has it"), slaves},
		{"nodeforget a:8021", asked(Change{Name: "NODEFORGET", Server: a}).Reply("NODEFORGET"), slaves},
		{"NODEREPLACE a:8021", node("NODEREPLACE host:ctlport host:ctlport, the second one takes the place of the first; one of both will do where only one server has it"), slaves},
		{"NODEREPLACE a 8022", asked(Change{Name: "NODEREPLACE", Server: ServerRef{Host: "a"}, By: ServerRef{CtlPort: 8022}}).Reply("NODEREPLACE"), slaves},
		{"NODEREPLACE a:8021 b:x", "ERROR: There is no such as server.\nREASON: \"x\" is no port from 1 to 65535\n", slaves},
		{"NODEREPLACE a:8021 b:8021", asked(Change{Name: "NODEREPLACE", Server: a, By: ServerRef{Host: "b", CtlPort: 8021}}).Reply("NODEREPLACE"), slaves},
		{"NODERESTART a:8021", asked(Change{Name: "NODERESTART", Server: a, Hold: 30 * time.Second}).Reply("NODERESTART"), slaves},
		{"NODERESTART a:8021 90s", asked(Change{Name: "NODERESTART", Server: a, Hold: 90 * time.Second}).Reply("NODERESTART"), slaves},
		{"NODERESTART a:8021 90", node("\"90\" is no duration; NODERESTART [host:ctlport] [HOLD], HOLD as in 30s, which is the default; this node where no server is named"), slaves},
		{"NODERESTART", asked(Change{Name: "NODERESTART", Hold: 30 * time.Second}).Reply("NODERESTART"), slaves},
		{"NODERESTART 2m", asked(Change{Name: "NODERESTART", Hold: 2 * time.Minute}).Reply("NODERESTART"), slaves},
		{"NODERESTART 8021", asked(Change{Name: "NODERESTART", Server: ServerRef{CtlPort: 8021}, Hold: 30 * time.Second}).Reply("NODERESTART"), slaves},
		{"NODERESTART 1h 30s", asked(Change{Name: "NODERESTART", Server: ServerRef{Host: "1h"}, Hold: 30 * time.Second}).Reply("NODERESTART"), slaves},
		{"SERVICEOUT", needs, needs},
		{"SERVICEOUT a", needs, needs},
		{"SERVICEOUT a 8021", needs, needs},
		{"SERVICEOUT a:8021:x:y", needs, needs},
		{"SERVICEOUT :8021", "ERROR: Parameters are wrong.\n", "ERROR: Parameters are wrong.\n"},
		{"SERVICEOUT a:", "ERROR: Parameters are wrong.\n", "ERROR: Parameters are wrong.\n"},
		{"SERVICEOUT a:abc", "ERROR: There is no such as server.\nREASON: \"abc\" is no port from 1 to 65535\n", "ERROR: There is no such as server.\nREASON: \"abc\" is no port from 1 to 65535\n"},
		{"serviceout a:8021 extra", out("a"), out("a")},
		{"SERVICEOUT a:8021:ignored", out("a"), out("a")},
		{"SERVICEOUT [::1]:8021", out("::1"), out("::1")},
		{"SERVICEOUT [::1]8021", needs, needs},
		{"SERVICEOUT [::1", needs, needs},
		{"dump junk", Dump{}.String(), Dump{}.String()},
		{"TRACE foo", replyTraceWord, replyTraceWord},
		{"traceview DIR=x", replyViewWords, replyViewWords},
		{"HELP", "Unknown command(HELP)\n", "Unknown command(HELP)\n"},
	} {
		for slave, want := range map[bool]string{false: tc.server, true: tc.slave} {
			if got := answers(slave)(t.Context(), ParseCommand([]byte(tc.send)), 1); got != want {
				t.Errorf("%s, slave %t: %q, want %q", tc.send, slave, got, want)
			}
		}
	}
}

// asked is an outcome that shows what was asked for.
func asked(c Change) Outcome { return Outcome{Verdict: Failed, Reason: fmt.Sprint(c)} }

// TestReplies proves the first line of each outcome, and that only what was not
// done has a reason, in one line.
func TestReplies(t *testing.T) {
	for _, tc := range []struct {
		command string
		verdict Verdict
		want    string
	}{
		{"SERVICEIN", Done, "SUCCEED\n"},
		{"SERVICEIN", DoneAlone, "SUCCEED: Send status notice to no server on RING.\n"},
		{"MERGE", DoneAlone, "SUCCEED: There no server on RING.\n"},
		{"SUSPENDMERGE", DoneAlone, "SUCCEED\n"},
		{"SERVICEOUT", AlreadyOut, "SUCCEED: Already server has been SERVICEOUT.\n"},
		{"SERVICEOUT", LastServer, "ERROR: Failed to send status notice to other servers.\nREASON: why so\n"},
		{"SERVICEOUT", NoSuchServer, "ERROR: There is no such as server.\nREASON: why so\n"},
		{"SERVICEIN", Operating, "ERROR: Could not change status, because server is operating now.\nREASON: why so\n"},
		{"SERVICEIN", WrongStatus, "ERROR: Could not change status, because status is not allowed.\nREASON: why so\n"},
		{"COMPMERGE", SomeServers, "ERROR: Could not change status, because some servers could not be changed its status now.\nREASON: why so\n"},
		{"SERVICEIN", Failed, "ERROR: Something error is occured in sending/receiving data on RING.\nREASON: why so\n"},
		{"MERGE", Failed, "ERROR: Failed to start merging.\nREASON: why so\n"},
		{"ABORTMERGE", Failed, "ERROR: Failed to stop merging.\nREASON: why so\n"},
		{"COMPMERGE", Failed, "ERROR: Failed to complete merging.\nREASON: why so\n"},
		{"SUSPENDMERGE", Failed, "ERROR: Could not suspend merge automatically.\nREASON: why so\n"},
		{"NOSUSPENDMERGE", Failed, "ERROR: Could not nosuspend merge automatically.\nREASON: why so\n"},
		{"UPDATESTATUS", Failed, "ERROR: Could not send self status to other servers in RING.\nREASON: why so\n"},
	} {
		if got := (Outcome{tc.verdict, "why\nso"}).Reply(tc.command); got != tc.want {
			t.Errorf("%s, verdict %d: %q, want %q", tc.command, tc.verdict, got, tc.want)
		}
	}
}

// TestServerRef proves what the third part of a server's name means, which
// depends on CHMPXIDTYPE.
func TestServerRef(t *testing.T) {
	s := ring.Identity{Name: "a", CtlPort: 8021, CUK: "k", CtlEndpoints: "a:1,b:2", CustomSeed: "s"}
	for _, tc := range []struct {
		param string
		t     ring.IDType
		reply string // empty: it can be read
		is    bool
	}{
		{"a:8021:x", ring.IDByName, "", true},
		{"a:8022", ring.IDByName, "", false},
		{"a:8021:k", ring.IDByCUK, "", true},
		{"a:8021:x", ring.IDByCUK, "", false},
		{"a:8021", ring.IDByCUK, "", true},
		{"a:8021:a:1,b:2", ring.IDByCtlEndpoints, "", true},
		{"a:8021:a:1", ring.IDByCtlEndpoints, "", false},
		{"a:8021:s", ring.IDByCustom, "", true},
		{"a:8021:s:x", ring.IDByCustom, replyNeedsServer, false},
		{"a:0", ring.IDByName, replyNoSuchServer, false},
		{"a:65536", ring.IDByName, replyNoSuchServer, false},
	} {
		ref, reply := parseServer([]string{tc.param}, tc.t)
		if (reply == "") != (tc.reply == "") || !strings.HasPrefix(reply, tc.reply) {
			t.Errorf("%s, %v: %q, want %q", tc.param, tc.t, reply, tc.reply)
		} else if got := ref.Matches(tc.t, s); reply == "" && got != tc.is {
			t.Errorf("%s, %v: matches %t, want %t", tc.param, tc.t, got, tc.is)
		}
	}
}

// TestConsistent proves that the status waits for what is committed when asked
// to, says why it cannot be had, and ends with the port.
func TestConsistent(t *testing.T) {
	s := New(nil, Config{
		Status: func() any { return 1 },
		Consistent: func(ctx context.Context) error {
			if ctx.Err() != nil {
				return errors.New("no quorum")
			}
			return nil
		},
	})
	over, end := context.WithCancel(t.Context())
	end()
	for _, tc := range []struct {
		ctx  context.Context
		path string
		code int
		body string
	}{
		{t.Context(), "/v1/status?consistent=1", 200, "1"},
		{over, "/v1/status?consistent=true", 503, `{"error":"no quorum"}`},
		{over, "/v1/status?consistent=0", 200, "1"},
		{over, "/v1/status", 200, "1"},
		{over, "/v1/status?consistent=yes", 400, `{"error":"consistent: \"yes\" is neither 1 nor 0"}`},
	} {
		code, body := s.route(tc.ctx, httptest.NewRequest(http.MethodGet, "http://localhost"+tc.path, nil), Full)
		if got := strings.TrimSpace(string(body)); code != tc.code || got != tc.body {
			t.Errorf("%s: %d %s, want %d %s", tc.path, code, got, tc.code, tc.body)
		}
	}
}

// answers returns the Command function of a node that shows an empty ring, and
// the open connections as COUNT.
func answers(slave bool) func(context.Context, Command, int) string {
	a := Answers{
		Version: "Version 1", Slave: slave,
		Self: func() Self { return Self{Group: "G"} }, All: func() All { return All{Group: "G"} },
		Dump:   func() Dump { return Dump{} },
		Trace:  Tracing{Max: func() int { return 100 }, Set: func(bool) bool { return true }, View: func() []Trace { return nil }},
		Change: func(_ context.Context, c Change) Outcome { return asked(c) },
	}
	return func(ctx context.Context, c Command, open int) string {
		if c.Name == "COUNT" {
			return fmt.Sprintln(open)
		}
		return a.Answer(ctx, c, open)
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
		if c.Name != strings.ToUpper(c.Word) {
			t.Errorf("%q: word %q, name %q", line, c.Word, c.Name)
		}
		for _, word := range append([]string{c.Word}, c.Args...) {
			at := strings.Index(s, word)
			if at < 0 || strings.ContainsAny(s[:at], "\x00") || strings.ContainsAny(word, " \t\r\n") {
				t.Fatalf("%q: word %q", line, word)
			}
			s = s[at+len(word):]
		}
		if strings.Trim(s, " \t\r\n") != "" {
			t.Errorf("%q: %q is in no word", line, s)
		}
	})
}
