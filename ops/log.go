package ops

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// ErrLevel is wrapped by ParseLevel's error.
var ErrLevel = errors.New("unknown log level")

// Level says how much is logged.
type Level uint8

// The levels, from nothing to everything.
const (
	LevelSilent  Level = iota // nothing
	LevelError                // what failed and was handled, with degraded service
	LevelWarning              // what an operator should look at
	LevelMessage              // what the node does: starts, joins, changes of the ring
	LevelDump                 // all details
)

// ParseLevel reads a level as the options -d and -g name it, in any case:
// silent or slt, err or error, wan, warn or warning, msg, message, inf or
// info, dump.
func ParseLevel(s string) (Level, error) {
	switch strings.ToLower(s) {
	case "silent", "slt":
		return LevelSilent, nil
	case "err", "error":
		return LevelError, nil
	case "wan", "warn", "warning":
		return LevelWarning, nil
	case "msg", "message", "inf", "info":
		return LevelMessage, nil
	case "dump":
		return LevelDump, nil
	}
	return LevelSilent, fmt.Errorf("%w %q: use silent, err, wan, msg or dump", ErrLevel, s)
}

// String returns the level's name as ParseLevel reads it.
func (l Level) String() string {
	switch l {
	case LevelSilent:
		return "silent"
	case LevelError:
		return "err"
	case LevelWarning:
		return "wan"
	case LevelMessage:
		return "msg"
	}
	return "dump"
}

// slogLevel returns the lowest slog level that is shown.
func (l Level) slogLevel() slog.Level {
	switch l {
	case LevelError:
		return slog.LevelError
	case LevelWarning:
		return slog.LevelWarn
	case LevelMessage:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// NewLogger returns a logger that writes lines of text to w, as far as the
// level lets them through.
func NewLogger(l Level, w io.Writer) *slog.Logger {
	if l == LevelSilent {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l.slogLevel()}))
}

// OpenLog returns a logger as NewLogger does and a function that ends it. It
// appends to file, which it creates with mode 0640, or writes to standard
// error when file is empty. The returned function is never nil.
func OpenLog(l Level, file string) (*slog.Logger, func() error, error) {
	if file == "" {
		return NewLogger(l, os.Stderr), func() error { return nil }, nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, func() error { return nil }, fmt.Errorf("open log file: %w", err)
	}
	return NewLogger(l, f), f.Close, nil
}
