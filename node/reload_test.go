package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
)

// until waits for something that a node does by itself.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !cond() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("in vain for %s", what)
		}
	}
}

// run runs a node of a site until the test ends.
func (s *site) run(t *testing.T, o Options) *Node {
	t.Helper()
	o.Config = config.Source{Path: s.conf}
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return n
}

func (s *site) text(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replace puts a file in the place of another one, as most tools do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), ".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// rewrite writes a file anew in its place, as an editor or cp does.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// logbook is a log that a test reads while it is written.
type logbook struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// No number in the status of a node that runs is one that a reader rounds which
// takes numbers for floats.
func TestStatusNumbers(t *testing.T) {
	s := newSite(t)
	n := s.run(t, Options{NoWatch: true})
	until(t, "the ring", func() bool { return n.Status().Incarnation != 0 })
	for _, path := range []string{"/v1/status", "/v1/owners?hash=0xffffffffffffffff"} {
		var all map[string]any
		if _, err := ringview.Get(t.Context(), "localhost", uint16(s.ctlPort), path, &all); err != nil {
			t.Fatal(err)
		}
		var walk func(at string, v any)
		walk = func(at string, v any) {
			switch v := v.(type) {
			case map[string]any:
				for key, each := range v {
					walk(at+"."+key, each)
				}
			case []any:
				for _, each := range v {
					walk(at+"[]", each)
				}
			case float64:
				if math.Abs(v) > 1<<53 {
					t.Errorf("%s%s = %.0f", path, at, v)
				}
			case string:
				if strings.HasSuffix(at, ".id") && at != ".raft.id" && (len(v) != 16 || strings.Trim(v, "0123456789abcdef") != "") {
					t.Errorf("%s%s = %q", path, at, v)
				}
			}
		}
		walk("", all)
	}
}

// A changed file takes effect by itself, whether it was written anew, replaced,
// deleted and created, or is a link that leads elsewhere now; one that is wrong
// or says what cannot change leaves all as it was, is told in status and log, and
// forgotten when it is right again.
func TestReloadByFile(t *testing.T) {
	s := newSite(t)
	var logged logbook
	text := s.text(t)
	n := s.run(t, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	until(t, "the ring", func() bool { return n.Status().Incarnation != 0 })
	revision := 1
	next := func(put func(path, text string)) {
		t.Helper()
		revision++
		put(s.conf, strings.Replace(text, "FILEVERSION = 1", fmt.Sprintf("FILEVERSION = %d", revision), 1))
		until(t, fmt.Sprintf("revision %d", revision), func() bool { return n.Status().Config.Revision == revision })
	}
	in := func(put func(*testing.T, string, string)) func(string, string) {
		return func(path, text string) { put(t, path, text) }
	}
	next(in(rewrite))
	next(in(replace))
	next(func(path, text string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		until(t, "that the file is missed", func() bool { return strings.Contains(n.Status().Config.Refused, "no such file") })
		rewrite(t, path, text)
	})
	elsewhere := t.TempDir()
	for _, name := range []string{"a", "b"} { // the file becomes a link to another directory, then to another file
		next(func(path, text string) {
			to := filepath.Join(elsewhere, name)
			rewrite(t, to, text)
			if err := os.Symlink(to, filepath.Join(s.dir, ".link")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(s.dir, ".link"), path); err != nil {
				t.Fatal(err)
			}
		})
	}
	next(in(rewrite)) // through the link, in a directory that was none of ours at the start

	before := n.Status()
	for bad, wants := range map[string][]string{
		"": {"it is empty"},
		strings.Replace(text, "GROUP = NODETEST\n", "", 1):                             {"[GLOBAL]: GROUP is required"},
		strings.Replace(text, "NODETEST", "OTHER", 1):                                  {`GROUP = "OTHER" cannot change while the node runs; it has "NODETEST"`},
		strings.Replace(text, "[SVRNODE]", "REPLICA = 2\n[SVRNODE]", 1):                {`REPLICA = "2" cannot change`, `it has "0"`},
		strings.Replace(text, fmt.Sprint("PORT = ", s.port), "PORT = 1", 1):            {`PORT = "1" cannot change`, fmt.Sprint(s.port)},
		strings.Replace(text, "[SVRNODE]\nNAME = localhost", "[SVRNODE]\nNAME = x", 1): {"[SVRNODE] localhost:"},
	} {
		rewrite(t, s.conf, bad)
		until(t, "the refusal of\n"+bad, func() bool {
			refused := n.Status().Config.Refused
			for _, want := range wants {
				if !strings.Contains(refused, want) {
					return false
				}
			}
			return refused != ""
		})
		st := n.Status()
		if warnings := strings.Join(st.Warnings, "\n"); !strings.Contains(warnings, "the configuration has been changed and cannot take effect: ") || !strings.Contains(warnings, wants[0]) {
			t.Errorf("%q is not among the warnings %q", wants[0], warnings)
		}
		if st.Config.Revision != before.Config.Revision || st.Config.Since != before.Config.Since || st.Incarnation != before.Incarnation {
			t.Errorf("%+v, before %+v", st.Config, before.Config)
		}
		until(t, "a line about "+wants[0], func() bool { return strings.Contains(logged.String(), strings.ReplaceAll(wants[0], `"`, `\"`)) })
	}
	next(in(replace))
	if st := n.Status(); st.Config.Refused != "" || strings.Contains(strings.Join(st.Warnings, "\n"), "cannot take effect") {
		t.Errorf("after all is well: %+v, %q", st.Config, st.Warnings)
	}
}

// chmpxctl reload, and what it answers.
func TestReloadByRequest(t *testing.T) {
	s := newSite(t)
	text := s.text(t)
	n := s.run(t, Options{NoWatch: true})
	until(t, "the ring", func() bool { return n.Status().Incarnation != 0 })
	reload := func() (r struct {
		Reloaded
		Reply string
	}, err error) {
		err = ringview.Post(t.Context(), "localhost", uint16(s.ctlPort), "/v1/reload", &r)
		return r, err
	}
	if r, err := reload(); err != nil || r.Reply != "nothing has changed" || r.Revision != 1 {
		t.Errorf("without a change: %+v, %v", r, err)
	}
	more := "[SVRNODE]\nNAME = 127.0.0.1\nPORT = 1\nCTLPORT = 2\n"
	rewrite(t, s.conf, strings.Replace(text, "FILEVERSION = 1\n", "FILEVERSION = 2\nCTLALLOW = 192.0.2.1\n", 1)+more)
	if r, err := reload(); err != nil || r.Reply != "changed: FILEVERSION, CTLALLOW; new servers: 127.0.0.1:2" || r.Revision != 2 {
		t.Errorf("a server more: %+v, %v", r, err)
	}
	if all := ask(t, s.ctlPort, "ALLSTATUS"); !strings.Contains(all, "No.2\n") || !strings.Contains(all, "= 2\n") {
		t.Errorf("ALLSTATUS does not show the new server:\n%s", all)
	}
	rewrite(t, s.conf, strings.Replace(text, "[SVRNODE]", "DOMERGE = on\nRINGBYTES = 64KiB\n[SVRNODE]", 1))
	_, err := reload()
	for _, want := range []string{`DOMERGE = "yes" cannot change while the node runs; it has "no"`, `RINGBYTES = "64KiB" cannot change while the node runs; it has "1MiB"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if c := n.Status().Config; c.Revision != 2 || !strings.Contains(c.Refused, "DOMERGE") || len(n.conf().Servers) != 2 {
		t.Errorf("after the refusal: %+v", c)
	}
	rewrite(t, s.conf, strings.Replace(text, "NAME = localhost\nCTLPORT = 1", "NAME = [.]*\nCTLPORT = 1", 1))
	if r, err := reload(); err != nil || r.Reply != "changed: FILEVERSION, CTLALLOW; no longer named, yet not removed from the ring: 127.0.0.1:2" || r.Revision != 1 {
		t.Errorf("a server less: %+v, %v", r, err)
	}
	rewrite(t, s.conf, text)
	if r, err := reload(); err != nil || r.Reply != "other nodes are described otherwise" {
		t.Errorf("other slaves: %+v, %v", r, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://localhost:%d/v1/reload", s.ctlPort), bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a form was answered with %d", resp.StatusCode)
	}
}

// Times and limits of a node take effect while it runs: both planes have them.
func TestReloadOfLimits(t *testing.T) {
	s := newSite(t)
	text := s.text(t)
	n := s.run(t, Options{NoWatch: true})
	until(t, "the ring", func() bool { return n.Status().Incarnation != 0 })
	if got := sendFrom(t, s.ctlPort, "TRACE on\n"); got != "SUCCEED\n" {
		t.Fatalf("TRACE: %q", got)
	}
	c, err := client.Attach(t.Context(), client.Options{Config: s.conf, Role: client.RoleServer})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until(t, "the program", func() bool { return n.Status().Servers[0].Suspended == false })
	load := func(keys string) {
		t.Helper()
		rewrite(t, s.conf, strings.Replace(text, "[SVRNODE]", keys+"[SVRNODE]", 1))
		if _, err := n.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	load("MAXHISTLOG = 0\nSHMBYTESMAX = 5MiB\nSUSPENDGRACE = 1h\nDOWNOUT = 5s\nUPBACKOFFMAX = 3s\nDOWNAFTER = 5s\nOWNERLEASE = 2s\n")
	if got := sendFrom(t, s.ctlPort, "TRACE off\n"); !strings.HasPrefix(got, "ERROR: TRACE is already") {
		t.Errorf("without room for a history: %q", got)
	}
	if _, err := client.Attach(t.Context(), client.Options{Config: s.conf, Role: client.RoleClient}); !errors.Is(err, client.ErrNoRoom) {
		t.Errorf("a second program beyond SHMBYTESMAX: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	until(t, "that the node has no program", func() bool { return n.Status().Programs == 0 })
	if n.Status().Servers[0].Suspended {
		t.Error("suspended at once, with SUSPENDGRACE = 1h")
	}
	load("SUSPENDGRACE = 0s\nDOWNAFTER = 5s\n")
	until(t, "that the server is suspended", func() bool { return n.Status().Servers[0].Suspended })
	c, err = client.Attach(t.Context(), client.Options{Config: s.conf, Role: client.RoleClient})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// Before a server has a ring it does not take other servers: with whom it starts
// one is settled.
func TestReloadWithoutRing(t *testing.T) {
	s := newSite(t)
	text := s.text(t)
	other := "[SVRNODE]\nNAME = 127.0.0.1\nPORT = 1\nCTLPORT = 2\n[SVRNODE]\nNAME = 127.0.0.1\nPORT = 3\nCTLPORT = 4\n"
	rewrite(t, s.conf, text+other)
	n := s.run(t, Options{NoWatch: true})
	until(t, "that it waits", func() bool { return n.Status().WaitsFor != "" })
	rewrite(t, s.conf, text)
	if _, err := n.Reload(); !errors.Is(err, controlplane.ErrNoRingYet) {
		t.Errorf("got %v", err)
	}
	rewrite(t, s.conf, strings.Replace(text, "FILEVERSION = 1", "FILEVERSION = 2", 1)+other)
	if r, err := n.Reload(); err != nil || r.Revision != 2 {
		t.Errorf("the same servers: %v", err)
	}
}

// A configuration that came through a pipe is not read a second time by itself:
// there is nothing in it any more.
func TestReloadOfPipe(t *testing.T) {
	s := newSite(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(s.text(t)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	s.conf = fmt.Sprintf("/dev/fd/%d", r.Fd())
	n := s.run(t, Options{})
	until(t, "the ring", func() bool { return n.Status().Incarnation != 0 })
	if files := n.conf().Files; len(files) != 1 || regular(files) {
		t.Errorf("%q are watched", files)
	}
	if _, err := n.Reload(); err == nil || !strings.Contains(err.Error(), "it is empty") || n.conf().Revision != 1 {
		t.Errorf("asked to read it again: %v, revision %d", err, n.conf().Revision)
	}
}
