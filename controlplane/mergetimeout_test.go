package controlplane

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Proves that a merge of which one answer never comes hangs nobody: MERGETIMEOUT
// ends it, or ABORTMERGE, nothing starts by itself then, all nodes show the same,
// and the node that does not answer stops in order.
func TestMergeWithoutAnswer(t *testing.T) {
	for _, timeout := range []int{20, 0} {
		story(t, 3, func(r *rig) {
			r.params.MergeTimeoutS = timeout
			r.startAll()
			r.formed("a", "b", "c")
			r.serve()
			r.nodes["a"].mu.Lock()
			r.nodes["a"].mute = true
			r.nodes["a"].mu.Unlock()
			b, c := r.nodes["b"], r.servers[2].ID
			if err := b.command(fsm.ServiceOut{ID: c}); err != nil {
				t.Fatal(err)
			}
			everywhere := func(words string) func() bool {
				return func() bool {
					for _, n := range r.nodes {
						if s := n.plane.view().Server(c); s == nil || !strings.Contains(s.Status.String(), words) {
							return false
						}
					}
					return true
				}
			}
			r.await("it runs", patience, everywhere("[DELETE][Doing]"))
			if timeout > 0 {
				took := r.await("it is ended", patience, everywhere("[DELETE][Pending]"))
				if took < 18*time.Second || took > 22*time.Second {
					t.Errorf("ended after %v", took)
				}
			} else {
				<-time.After(time.Minute)
				if !everywhere("[DELETE][Doing]")() {
					t.Error("ended without MERGETIMEOUT")
				}
				if err := b.command(fsm.MergeAbort{Operator: true}); err != nil {
					t.Fatal(err)
				}
				r.await("it is ended", patience, everywhere("[n/a][Nothing]"))
			}
			<-time.After(time.Minute)
			for _, n := range r.nodes {
				v := n.plane.view()
				if v.Operating() || !v.MergeHeld || v.Server(c).Status.Ring() != ring.ServiceIn {
					t.Errorf("%s: merge %+v, held %v, %v", n.name, v.Merge, v.MergeHeld, v.Server(c).Status)
				}
			}
			begin := time.Now()
			if err := r.nodes["a"].plane.Leave(context.Background()); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("leaving took %v", took)
			}
		})
	}
}
