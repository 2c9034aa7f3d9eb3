package raftnode

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// repeatEvery is how often one and the same complaint of raft may be logged: a
// dead peer or a full disk must not fill an operator's log.
const repeatEvery = 30 * time.Second

// repeatKeysMax bounds the memory for complaints.
const repeatKeysMax = 256

// expected are complaints of raft about things that happen whenever a peer is
// dead, restarts or stands for election; our own words about them come from
// the verdict and the leader loop.
var expected = []string{
	"failed to heartbeat to", "failed to appendEntries to", "failed to pipeline appendEntries",
	"failed to start pipeline replication to", "failed to make requestVote RPC", "failed to install snapshot",
	"failed to send snapshot to", "failed to decode incoming command", "failed to flush response",
	"failed to contact", "failed to get previous log", "previous log term mis-match", "peer has newer term",
	"appendEntries rejected", "rejecting vote request", "rejecting pre-vote request",
	"heartbeat timeout reached", "Election timeout reached", "not part of stable configuration",
	"no known peers", "clearing log suffix", "new leader elected", "unable to get address",
}

// NewLogger turns what raft logs into records of log: raft's info and debug
// become debug; complaints that a dead peer explains become warnings. Each
// complaint is debug when it repeats within 30 s: a full disk fails many times
// a second.
func NewLogger(log *slog.Logger) hclog.Logger {
	return &logger{log: log, rep: &repeats{last: make(map[string]time.Time)}}
}

type logger struct {
	log  *slog.Logger
	name string
	args []any
	rep  *repeats
}

// repeats remembers when a complaint was last logged.
type repeats struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

func (r *repeats) fresh(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if t, ok := r.last[key]; ok && now.Sub(t) < repeatEvery {
		return false
	}
	if len(r.last) >= repeatKeysMax {
		clear(r.last)
	}
	r.last[key] = now
	return true
}

// Log implements hclog.Logger.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Warn {
		to = slog.LevelWarn
		if level >= hclog.Error && !isExpected(msg) {
			to = slog.LevelError
		}
		if !l.rep.fresh(msg + peerOf(args)) {
			to = slog.LevelDebug
		}
	}
	ctx := context.Background()
	if !l.log.Enabled(ctx, to) {
		return
	}
	all := make([]any, 0, len(l.args)+len(args))
	for _, a := range append(append(all, l.args...), args...) {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		all = append(all, a)
	}
	l.log.Log(ctx, to, "raft: "+msg, all...)
}

func isExpected(msg string) bool {
	for _, e := range expected {
		if strings.HasPrefix(msg, e) {
			return true
		}
	}
	return false
}

// peerOf finds whom a complaint is about.
func peerOf(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "target", "server-id", "id":
			return fmt.Sprint(args[i+1])
		}
	}
	return ""
}

// The remaining methods implement hclog.Logger.

func (l *logger) Trace(msg string, args ...any) {}
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *logger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *logger) IsTrace() bool { return false }
func (l *logger) IsDebug() bool { return l.log.Enabled(context.Background(), slog.LevelDebug) }
func (l *logger) IsInfo() bool  { return l.IsDebug() }
func (l *logger) IsWarn() bool  { return true }
func (l *logger) IsError() bool { return true }

func (l *logger) ImpliedArgs() []any { return l.args }
func (l *logger) Name() string       { return l.name }

func (l *logger) With(args ...any) hclog.Logger {
	n := *l
	n.args = append(append([]any(nil), l.args...), args...)
	return &n
}

func (l *logger) Named(name string) hclog.Logger {
	n := *l
	n.name = strings.TrimPrefix(l.name+"."+name, ".")
	return &n
}

func (l *logger) ResetNamed(name string) hclog.Logger {
	n := *l
	n.name = name
	return &n
}

func (l *logger) SetLevel(hclog.Level)  {}
func (l *logger) GetLevel() hclog.Level { return hclog.Debug }

func (l *logger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l *logger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(o).Writer()
}
