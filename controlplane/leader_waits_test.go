package controlplane

import (
	"testing"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// Proves that MERGETIMEOUT counts from the begin of a merge, whatever its stages,
// and only while one runs.
func TestOverdue(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	v := fsm.View{Params: fsm.Params{MergeTimeoutS: 10}, Merge: &ring.Merge{ID: 3, Phase: ring.MergeCopying}}
	w := new(leaderWaits)
	look := func(after time.Duration) bool {
		w.look(v, begin.Add(after))
		_, over := w.overdue(v, begin.Add(after))
		return over
	}
	look(0)
	v.Merge, v.MergeTimeUs = &ring.Merge{ID: 3, Phase: ring.MergeSealed, Seal: 5}, 77
	if look(9*time.Second) || !look(10*time.Second) {
		t.Error("not after 10 s of all stages together")
	}
	v.Merge = &ring.Merge{ID: 8, Phase: ring.MergeCopying}
	if look(11*time.Second) || look(20*time.Second) || !look(21*time.Second) {
		t.Error("the next merge does not begin anew")
	}
	v.Params.MergeTimeoutS = 0
	if look(time.Hour) {
		t.Error("without MERGETIMEOUT")
	}
	v.Params.MergeTimeoutS, v.Merge = 10, &ring.Merge{Phase: ring.MergePlanned}
	if look(2 * time.Hour) {
		t.Error("planned, not running")
	}
}

// TestLeaderWaits proves that the leader's waits do not depend on what the
// clocks of other hosts, or an earlier leader, have left in the log.
func TestLeaderWaits(t *testing.T) {
	begin := time.Unix(1_000_000, 0)
	id := ring.ID(7)
	for name, skew := range map[string]time.Duration{"behind": -time.Hour, "equal": 0, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			stamp := begin.Add(skew).UnixMicro()
			v := fsm.View{
				RingID: 1, MergeTimeUs: stamp, Members: make([]fsm.Member, 1),
				Merge: &ring.Merge{ID: 3, Phase: ring.MergeSealed, Seal: 5, Transfers: []ring.Transfer{{}}},
				Table: &ring.Table{Servers: []ring.Server{{ID: id, Incarnation: 2, Status: ring.ServiceIn | ring.Down, StatusTime: stamp}}},
			}
			w := new(leaderWaits)
			w.look(v, begin)
			for after, want := range map[time.Duration]bool{0: false, 4 * time.Second: false, 5 * time.Second: true} {
				w.look(v, begin.Add(after))
				if _, got := fsm.NextMergeStep(v, w.nowUs(begin.Add(after))); got != want {
					t.Errorf("unsealed after %v: %t", after, got)
				}
				if got := w.downFor(id, begin.Add(after)); got != after {
					t.Errorf("down for %v after %v", got, after)
				}
			}
			v.Table = &ring.Table{Servers: []ring.Server{{ID: id, Incarnation: 9, Status: ring.ServiceIn | ring.Down}}}
			w.look(v, begin.Add(time.Minute))
			if got := w.downFor(id, begin.Add(time.Minute)); got != 0 {
				t.Errorf("a later incarnation is down for %v", got)
			}
		})
	}
}

// TestDownOutAfterRestart proves that DOWNOUT begins when a server that did not come
// back from its restart is waited for no longer.
func TestDownOutAfterRestart(t *testing.T) {
	begin, id := time.Unix(1_000_000, 0), ring.ID(7)
	table, err := ring.NewTable(ring.Table{Servers: []ring.Server{{ID: id, Incarnation: 2, Status: ring.ServiceIn | ring.Down}}})
	if err != nil {
		t.Fatal(err)
	}
	v := fsm.View{RingID: 1, Table: table, Members: []fsm.Member{{ID: id, HoldUs: 3600_000_000}}}
	w := new(leaderWaits)
	for _, at := range []time.Duration{0, time.Hour} {
		w.look(v, begin.Add(at))
	}
	if _, over := w.holdOver(v, begin.Add(time.Hour)); !over {
		t.Error("the wait does not end")
	}
	v.Members = []fsm.Member{{ID: id}}
	for _, after := range []time.Duration{0, time.Minute} {
		now := begin.Add(time.Hour + after)
		w.look(v, now)
		if got := w.downFor(id, now); got != after {
			t.Errorf("%v after the end of the wait DOWNOUT has run for %v", after, got)
		}
	}
}
