package dataplane

import (
	"bytes"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusalLog proves that who is refused every second, as a server of
// another ring is, costs one line of the log per minute, that a stranger with
// another fault is seen beside it, and that what is kept for it is bounded.
func TestRefusalLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &Plane{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 120 {
			<-time.After(time.Second)
			p.logRefusal("refused", "10.0.0.1", errors.New("another ring"))
		}
		if n := strings.Count(out.String(), "another ring"); n != 2 {
			t.Errorf("%d lines in two minutes, want 2", n)
		}
		<-time.After(time.Second)
		p.logRefusal("refused", "10.0.0.1", errors.New("another group"))
		if !strings.Contains(out.String(), "another group") {
			t.Error("another fault of the same host is not logged")
		}
		for i := range 3 * refusalsMax {
			<-time.After(time.Second)
			p.logRefusal("refused", strconv.Itoa(i), errors.New("x"))
		}
		if len(p.refusals) > refusalsMax {
			t.Errorf("%d refusals are kept, at most %d allowed", len(p.refusals), refusalsMax)
		}
	})
}
