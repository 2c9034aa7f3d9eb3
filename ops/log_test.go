package ops

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A level's name is read in any case, with its aliases; others are refused by name.
func TestParseLevel(t *testing.T) {
	for in, want := range map[string]Level{
		"silent": LevelSilent, "SLT": LevelSilent, "Err": LevelError, "error": LevelError, "WAN": LevelWarning,
		"warning": LevelWarning, "INF": LevelMessage, "info": LevelMessage, "msg": LevelMessage, "DUMP": LevelDump,
	} {
		if got, err := ParseLevel(in); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	if _, err := ParseLevel("foo"); !errors.Is(err, ErrLevel) || !strings.Contains(err.Error(), `"foo"`) {
		t.Errorf("ParseLevel(foo) = %v, want ErrLevel with the word", err)
	}
	for l := LevelSilent; l <= LevelDump; l++ {
		if got, err := ParseLevel(l.String()); err != nil || got != l {
			t.Errorf("ParseLevel(%v.String()) = %v, %v", l, got, err)
		}
	}
}

// Each level lets through its own lines and the graver ones, and silent nothing.
func TestLevels(t *testing.T) {
	for level, want := range map[Level]int{LevelSilent: 0, LevelError: 1, LevelWarning: 2, LevelMessage: 3, LevelDump: 4} {
		var b bytes.Buffer
		log := NewLogger(level, &b)
		for _, l := range []slog.Level{slog.LevelError, slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
			log.Log(context.Background(), l, "line")
		}
		if got := strings.Count(b.String(), "line"); got != want {
			t.Errorf("level %v shows %d lines, want %d", level, got, want)
		}
	}
}

// A log file is appended to, and an impossible one is an error with its name.
func TestOpenLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for range 2 {
		log, closeLog, err := OpenLog(LevelError, file)
		if err != nil {
			t.Fatal(err)
		}
		log.Error("line")
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil || strings.Count(string(b), "line") != 2 {
		t.Errorf("log file holds %q, %v, want two lines", b, err)
	}
	if _, _, err := OpenLog(LevelError, filepath.Join(file, "x")); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("OpenLog below a file = %v, want an error that names it", err)
	}
}
