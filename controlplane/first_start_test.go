package controlplane

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is a buffer that several nodes may log to.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// TestFirstStartIsNoAlarm proves that servers which start for the first time,
// in whatever order, log no error: one that has begun its log before the others
// must not take them for servers that lost their disks.
func TestFirstStartIsNoAlarm(t *testing.T) {
	for _, pause := range []time.Duration{0, 300 * time.Millisecond, 3 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			story(t, 3, func(r *rig) {
				var said lockedBuffer
				log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
				for i, m := range r.servers {
					if i > 0 {
						<-time.After(pause)
					}
					r.start(m.Name, func(c *Config) { c.Logger = log.With("node", m.Name) })
				}
				r.formed("a", "b", "c")
				said.mu.Lock()
				defer said.mu.Unlock()
				if said.buf.Len() > 0 {
					t.Errorf("logged:\n%s", said.buf.String())
				}
			})
		})
	}
}
