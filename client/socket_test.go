package client

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// TestSocketPaths proves that the configuration leads to the socket that is
// named after the node's id, and that a node that is not in it is an error.
func TestSocketPaths(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "slave.ini")
	text := `[GLOBAL]
FILEVERSION = 1
GROUP = TEST
MODE = SLAVE
SELFCTLPORT = 8022
DELIVERMODE = HASH
RUNDIR = ` + dir + `

[SVRNODE]
NAME = localhost
PORT = 8020
CTLPORT = 8021

[SLVNODE]
NAME = localhost
CTLPORT = 8022
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := socketPaths(&Options{Config: file})
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, ring.NodeID("TEST", ring.IDByName, ring.Identity{Name: "localhost", CtlPort: 8022}).String()+".sock")
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %v", got, want)
	}
	inText := Options{JSON: `{"INCLUDE": "` + file + `"}`}
	if got, err := socketPaths(&inText); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("JSON: got %v, %v, want %v", got, err, want)
	}
	for env, value := range map[string]string{"CHMCONFFILE": file, "CHMJSONCONF": inText.JSON} {
		t.Run(env, func(t *testing.T) {
			t.Setenv("CHMCONFFILE", "")
			t.Setenv("CHMJSONCONF", "")
			t.Setenv(env, value)
			var o Options
			if err := o.setDefaults(); err != nil {
				t.Fatal(err)
			}
			if got, err := socketPaths(&o); err != nil || len(got) != 1 || got[0] != want {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
	if _, err := Attach(t.Context(), Options{Config: file, CtlPort: 9}); !errors.Is(err, config.ErrConfig) {
		t.Errorf("unknown control port: %v, want config.ErrConfig", err)
	}
	for key, cold := range map[string]bool{"on": false, "off": true} { // HOTWAIT is for programs, too
		o := Options{JSON: `{"INCLUDE": "` + file + `", "GLOBAL": {"HOTWAIT": "` + key + `"}}`}
		if _, err := socketPaths(&o); err != nil || o.ColdWait != cold {
			t.Errorf("HOTWAIT %s: ColdWait %v, %v", key, o.ColdWait, err)
		}
	}
	if got, err := socketPaths(&Options{Config: file, Socket: "s"}); err != nil || len(got) != 1 || got[0] != "s" {
		t.Errorf("Socket: %v, %v", got, err)
	}
}

// TestForeignDirectory proves that a socket is not used that a stranger could
// have made.
func TestForeignDirectory(t *testing.T) {
	open, own := t.TempDir(), t.TempDir()
	foreign := filepath.Join(open, "chmpx")
	if err := errors.Join(os.Mkdir(foreign, 0o750), os.Chmod(open, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		dir   string
		owner int
		want  error
	}{
		{own, os.Geteuid(), nil},
		{open, os.Geteuid(), ErrForeignDir},
		{foreign, os.Geteuid(), nil},
		{foreign, 12345, ErrForeignDir},
		{own, 12345, nil}, // of a service; only its owner's parent could make it
	}
	for _, tt := range tests {
		if tt.owner != os.Geteuid() {
			if os.Geteuid() != 0 {
				continue // only root can give a directory away
			}
			if err := os.Chown(tt.dir, tt.owner, -1); err != nil {
				t.Fatal(err)
			}
		}
		if err := safeDirectory(tt.dir); !errors.Is(err, tt.want) {
			t.Errorf("%s of user %d: %v, want %v", tt.dir, tt.owner, err, tt.want)
		}
	}
	_, err := Attach(stopIn(t, 30*time.Millisecond), Options{Socket: filepath.Join(open, "node.sock")})
	if !errors.Is(err, ErrNoNode) || !errors.Is(err, ErrForeignDir) {
		t.Errorf("Attach: %v, want ErrNoNode and ErrForeignDir", err)
	}
}

// TestRefusedForGood proves that a node that refuses a program for good is
// asked on, and that the log says each cause once.
func TestRefusedForGood(t *testing.T) {
	n := newTestNode(t)
	var log warnings
	c := attachAs(t, n, Options{Logger: slog.New(&log)})
	n.stop()
	n.do(func() {
		for _, code := range []wire.AttachCode{wire.AttachRefusedRole, wire.AttachRefusedRole, wire.AttachRefusedRole,
			wire.AttachRefusedRoom, wire.AttachRefusedRoom} {
			n.refuse = append(n.refuse, wire.AttachReply{Code: code})
		}
	})
	n.start(t)
	until(t, "attached again", func() bool { return c.Stats().Reattached == 1 })
	log.mu.Lock()
	defer log.mu.Unlock()
	if got := log.seen["the node does not take this program back"]; got != 2 {
		t.Errorf("%d warnings, want one for each of two causes", got)
	}
}

// warnings counts warnings by their text.
type warnings struct {
	mu   sync.Mutex
	seen map[string]int
}

func (w *warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler           { return w }
func (w *warnings) WithGroup(string) slog.Handler                { return w }
func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]int{}
	}
	w.seen[r.Message]++
	return nil
}
