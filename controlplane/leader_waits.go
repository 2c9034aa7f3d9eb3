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
	held  map[ring.ID]heldServer
}

// heldServer is a server that is to restart, as it is until it has.
type heldServer struct {
	incarnation ring.Incarnation
	live        ring.Status
	since       time.Time
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
	down, held := make(map[ring.ID]downServer), make(map[ring.ID]heldServer)
	if v.Table != nil {
		for i, s := range v.Table.Servers {
			if v.Members[i].HoldUs > 0 {
				h := heldServer{s.Incarnation, s.Status.Live(), now}
				if was, known := w.held[s.ID]; known && was.incarnation == h.incarnation && was.live == h.live {
					h = was
				}
				held[s.ID] = h
			}
			if s.Status.Live() != ring.Down {
				continue
			}
			d, known := w.down[s.ID]
			if !known || d.incarnation != s.Incarnation || v.Members[i].HoldUs > 0 { // who is waited for is not away yet
				d = downServer{s.Incarnation, now}
			}
			down[s.ID] = d
		}
	}
	w.down, w.held = down, held
}

// holdOver returns the end of the wait for a server that has not left, or is not
// back, within the time for its restart; false when there is none.
func (w *leaderWaits) holdOver(v fsm.View, now time.Time) (fsm.Command, bool) {
	for id, h := range w.held {
		if now.Sub(h.since) >= time.Duration(v.Member(id).HoldUs)*time.Microsecond {
			return fsm.Command{Body: fsm.HoldEnd{ID: id, Incarnation: h.incarnation}}, true
		}
	}
	return fsm.Command{}, false
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
