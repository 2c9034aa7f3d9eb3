package service

import (
	"bytes"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A line has time, name and level as CHMPX's; a text of several lines stays one entry.
func TestLog(t *testing.T) {
	var b bytes.Buffer
	log := NewLogger(&b)
	log.Debug("hidden")
	log.Info("a", "k", 1)
	log.With("x", 2).Warn("b")
	log.WithGroup("g").Error("c\nd")
	const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} chmpx-service-helper `
	want := regexp.MustCompile(`^` + stamp + `\[INFO\] a k=1\n` + stamp + `\[WARNING\] b x=2\n` + stamp + `\[ERROR\] c\n\td\n$`)
	if !want.Match(b.Bytes()) {
		t.Errorf("got:\n%swant:\n%v", &b, want)
	}
}

// systemd gets the assignments of one call in one datagram, at a path or an
// abstract name; without a socket nothing is sent; a socket that is gone is an error.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	for _, socket := range []string{path, "@chmpx-test-" + filepath.Base(filepath.Dir(path)) + t.Name()} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		if err := (notifier{socket}).send("READY=1", "STATUS=here"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := l.Read(buf)
		if got := string(buf[:n]); err != nil || got != "READY=1\nSTATUS=here" {
			t.Errorf("%s: got %q, %v", socket, got, err)
		}
		l.Close()
		if err := (notifier{socket}).send("READY=1"); err == nil || !strings.Contains(err.Error(), socket) {
			t.Errorf("%s: after its end: %v, want an error that names it", socket, err)
		}
	}
	if err := (notifier{}).send("READY=1"); err != nil {
		t.Error(err)
	}
}
