package controlplane

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/controlplane/raftnode"
	"github.com/chmpx/chmpx/internal/mux"
)

// dataDir returns where a server keeps its state.
func (r *rig) dataDir(name string) string { return filepath.Join(r.dir, name) }

// wipe empties the disk of a server that does not run.
func (r *rig) wipe(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if err := os.RemoveAll(r.dataDir(name)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// startError starts the server a, which must end with an error by itself, and returns it.
func (r *rig) startError(tweaks ...func(*Config)) error {
	r.t.Helper()
	m := r.servers[0]
	mx := mux.New(r.listener(&m), testLog(m.Name))
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	ended := make(chan error, 1)
	cfg := Config{
		Self: m, Group: r.group, Params: r.params, Servers: r.servers, Dial: r.dialer(), Logger: testLog(m.Name), NoSync: true,
		DataDir: r.dataDir(m.Name), Mux: mx,
	}
	for _, tweak := range tweaks {
		tweak(&cfg)
	}
	p, err := New(cfg)
	go func() { ended <- mx.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// TestDamagedDisk proves that a server whose files hold garbage ends with an
// error that names the directory and the way out, and that it is back in its
// ring when that was done.
func TestDamagedDisk(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"raft.db", func(t *testing.T, dir string) { fillWith(t, filepath.Join(dir, "raft.db"), 0xa5) }},
		{"raft.db, its entries", func(t *testing.T, dir string) {
			name := filepath.Join(dir, "raft.db")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b = bytes.ReplaceAll(b, []byte(`"type":"`), []byte(`"t~pe":"`)) // pages stay sound
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"raft.id is missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "raft.id")); err != nil {
				t.Fatal(err)
			}
		}},
		{"raft.id of another server", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "raft.id"), []byte("00000000000000ff.0"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"snapshots", func(t *testing.T, dir string) {
			err := filepath.WalkDir(filepath.Join(dir, "snapshots"), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Name() == "state.bin" {
					fillWith(t, path, 0xa5)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			story(t, 3, func(r *rig) {
				r.startAll()
				r.formed("a", "b", "c")
				if tc.name == "snapshots" {
					if err := r.nodes["a"].plane.node.Load().Snapshot().Error(); err != nil {
						t.Fatal(err)
					}
				}
				r.kill("a")
				dir := r.dataDir("a")
				tc.damage(t, dir)
				err := r.startError()
				if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "director") {
					t.Errorf("started with %v", err)
					return
				}
				if !errors.Is(err, raftnode.ErrDamaged) && !errors.Is(err, ErrStateMachine) && !errors.Is(err, ErrConfig) && !strings.Contains(err.Error(), "snapshot") {
					t.Errorf("no reason in %v", err)
				}
				r.wipe("a")
				r.start("a", nil)
				r.formed("a", "b", "c")
			})
		})
	}
}

// fillWith overwrites a file with garbage of the same length.
func fillWith(t *testing.T, name string, b byte) {
	t.Helper()
	st, err := os.Stat(name)
	if err == nil {
		err = os.WriteFile(name, bytes.Repeat([]byte{b}, int(st.Size())), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLostIDs proves that a server whose ring.id was wiped is in its ring again
// after a restart, and has it again.
func TestLostIDs(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		r.kill("a")
		name := filepath.Join(r.dataDir("a"), "ring.id")
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		a := r.start("a", nil)
		r.formed("a", "b", "c")
		if got, want := a.plane.realmName(), r.nodes["b"].plane.realmName(); got != want {
			t.Errorf("a knows ring %q, the ring is %q", got, want)
		}
		if b, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(b)) != a.plane.realmName() {
			t.Errorf("ring.id holds %q, %v", b, err)
		}
	})
}

// TestLostDiskOfStandby proves that a standby which lost its disk is one again,
// under another raft id, and that its old id is gone.
func TestLostDiskOfStandby(t *testing.T) {
	story(t, 4, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c", "d")
		was := r.nodes["d"].plane.Status().Raft.ID
		r.kill("d")
		r.wipe("d")
		d := r.start("d", nil)
		r.formed("a", "b", "c", "d")
		r.await("the old id is gone", patience, func() bool { return memberIndex(r.leader().plane.clusterOf(), raft.ServerID(was)) < 0 })
		if st := d.plane.Status(); st.Raft.Suffrage != "nonvoter" || st.Quorum.Voters != 3 || st.Raft.ID == was {
			t.Errorf("d: %+v %+v", st.Raft, st.Quorum)
		}
	})
}
