package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestStaleDirectory proves that a server with the data directory of a ring
// that is no more cannot get into the ring that the others have started since,
// whose members go by the same raft ids: its longer log would replace theirs.
func TestStaleDirectory(t *testing.T) {
	story(t, 3, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c")
		for range 3 { // a log that is longer than the new ring's will be
			r.kill("a")
			r.start("a", nil)
			r.formed("a", "b", "c")
		}
		for _, name := range []string{"a", "b", "c"} {
			r.kill(name)
		}
		for _, name := range []string{"b", "c"} {
			if err := os.RemoveAll(filepath.Join(r.dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		b := r.start("b", nil)
		r.start("c", nil)
		r.formed("b", "c")
		id := b.plane.Status().RingID
		a := r.start("a", nil)
		r.await("said so", patience, func() bool {
			return strings.Contains(a.plane.Status().WaitsFor, "of another ring")
		})
		<-time.After(5 * time.Second)
		for _, name := range []string{"b", "c"} {
			if got := r.nodes[name].plane.Status(); got.RingID != id || !got.Quorum.OK {
				t.Errorf("%s: ring %x with quorum %+v, want ring %x", name, got.RingID, got.Quorum, id)
			}
		}
		if !b.up(r.nodes["c"].member.ID) || b.up(a.member.ID) {
			t.Error("the stale server changed who is UP")
		}
	})
}
