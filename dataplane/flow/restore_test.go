package flow

import (
	"testing"

	"github.com/chmpx/chmpx/wire"
)

// restore hands records of session 1 back to the program of s, and returns
// which of them stay. Their cursors are their numbers.
func (r *rig) restore(s *Session, recs ...Handed) string {
	keep := make([]bool, len(recs))
	for i := range recs {
		if recs[i].Session == (wire.SessionID{}) {
			recs[i].Session = wire.SessionID{1}
		}
		recs[i].From = 1
		r.end++
		recs[i].End = r.end
	}
	r.c.Restore(r.now, s, recs, keep)
	text := ""
	for _, k := range keep {
		text += map[bool]string{true: "+", false: "-"}[k]
	}
	return text
}

// Proves which records of a segment that was handed back stay, and that what
// stays is known: it is not given again, and acknowledged when it is taken.
func TestRestoreKeepsWhatThisNodeMayHave(t *testing.T) {
	rec := func(seq, hash uint64) Handed { return Handed{Seq: seq, Hash: hash} }
	tests := []struct {
		name    string
		prepare func(r *rig)
		recs    []Handed
		want    string
	}{
		{"own slots only", func(*rig) {}, []Handed{rec(5, 0), rec(6, 1), rec(7, 2), rec(8, 3)}, "+--+"},
		{"a sealed slot", func(r *rig) { r.view(0) }, []Handed{rec(5, 0), rec(6, 3)}, "-+"},
		{"not admitted", func(r *rig) { r.incs[0] = 0; r.view() }, []Handed{rec(5, 0)}, "-"},
		{"heard of the session", func(r *rig) { r.gets(r.up(1), r.message(7, 1, 7, 0)) }, []Handed{rec(5, 0), {Session: wire.SessionID{2}, Seq: 5}}, "-+"},
		{"twice the same", func(*rig) {}, []Handed{rec(5, 0), rec(5, 0)}, "+-"},
		{"not in the order of sequences", func(*rig) {}, []Handed{rec(1500, 0), rec(600, 3), rec(1600, 0)}, "+++"},
		{"more than a window", func(*rig) {}, []Handed{rec(5, 0), rec(5+Window, 0), rec(4+Window, 0)}, "+-+"},
		{"no sequence", func(*rig) {}, []Handed{rec(0, 0)}, "-"},
		{"in turns, and a copy", func(*rig) {}, []Handed{{Seq: 5, Kind: wire.KindRandom}, {Seq: 6, Hash: 1, Kind: wire.KindReplicate}}, "--"},
		{"more sessions than are remembered", func(r *rig) { r.c.cfg.SessionsMax = 1 }, []Handed{rec(5, 0), {Session: wire.SessionID{2}, Seq: 5}}, "+-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 100)
			other := r.attach(8, true)
			tt.prepare(r)
			s := r.attach(9, true)
			if got := r.restore(s, tt.recs...); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			r.c.Taken(r.now, s, r.end)
			r.c.Taken(r.now, other, r.end)
			if r.c.untaken != 0 || len(r.c.restored) != 0 {
				t.Errorf("got %d untaken and %d fences after all was taken", r.c.untaken, len(r.c.restored))
			}
		})
	}
}
