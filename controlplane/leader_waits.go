package controlplane

import (
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// leaderWaits measures by this node's monotonic clock for how long the leader
// has seen what it waits about: times in the log are of other hosts' clocks,
// and any clock may be set. It is owned by the merge loop.
type leaderWaits struct {
	merge mergeStage
	since time.Time // when merge was first seen
	begun time.Time // when its id was
	down  map[ring.ID]downServer
}

// mergeStage is one stage of one merge.
type mergeStage struct {
	id, seal uint64
	phase    ring.MergePhase
	timeUs   int64
}

type downServer struct {
	incarnation ring.Incarnation
	since       time.Time
}

// look notes what is new in v.
func (w *leaderWaits) look(v fsm.View, now time.Time) {
	stage := mergeStage{timeUs: v.MergeTimeUs}
	if m := v.Merge; m != nil {
		stage.id, stage.seal, stage.phase = m.ID, m.Seal, m.Phase
	}
	if stage.id != w.merge.id || w.begun.IsZero() {
		w.begun = now
	}
	if stage != w.merge || w.since.IsZero() {
		w.merge, w.since = stage, now
	}
	down := make(map[ring.ID]downServer)
	if v.Table != nil {
		for _, s := range v.Table.Servers {
			if s.Status.Live() != ring.Down {
				continue
			}
			d, known := w.down[s.ID]
			if !known || d.incarnation != s.Incarnation {
				d = downServer{s.Incarnation, now}
			}
			down[s.ID] = d
		}
	}
	w.down = down
}

// nowUs returns now on the clock of v.MergeTimeUs.
func (w *leaderWaits) nowUs(now time.Time) int64 {
	return w.merge.timeUs + now.Sub(w.since).Microseconds()
}

// downFor returns for how long a server has been seen DOWN.
func (w *leaderWaits) downFor(id ring.ID, now time.Time) time.Duration {
	if d, ok := w.down[id]; ok {
		return now.Sub(d.since)
	}
	return 0
}

// overdue returns the abort that MERGETIMEOUT asks for, if a merge has run for so
// long under this leader. Nothing starts by itself after it: a merge that takes
// longer each time would else begin again and again.
func (w *leaderWaits) overdue(v fsm.View, now time.Time) (fsm.Command, bool) {
	limit := time.Duration(v.Params.MergeTimeoutS) * time.Second
	if limit == 0 || !v.Operating() || now.Sub(w.begun) < limit {
		return fsm.Command{}, false
	}
	return fsm.Command{Body: fsm.MergeAbort{MergeID: v.Merge.ID, Hold: true, Reason: "MERGETIMEOUT"}}, true
}
