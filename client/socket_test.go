package client

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/ring"
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
	if got, err := socketPaths(&Options{Config: file, Socket: "s"}); err != nil || len(got) != 1 || got[0] != "s" {
		t.Errorf("Socket: %v, %v", got, err)
	}
}
