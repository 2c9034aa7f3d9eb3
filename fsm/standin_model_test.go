package fsm

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/chmpx/chmpx/ring"
)

// stoodIn is a note of a stand-in: one that tells what happened, which it plays
// before, or any.
func (w *world) stoodIn(v View, n int, inc ring.Incarnation) Body {
	other := rapid.IntRange(0, modelServers-1).Draw(w.rt, "by")
	note := StoodIn{By: id(other), For: id(n), Incarnation: inc, Epoch: ring.Epoch{Era: 1, Index: rapid.Uint64Range(0, w.index).Draw(w.rt, "epoch")}}
	by, of := v.Server(note.By), v.Server(note.For)
	if by == nil || of == nil || other == n || rapid.IntRange(0, 3).Draw(w.rt, "any") == 0 || !v.Params.DoMerge || v.Operating() {
		return note
	}
	note.Incarnation, note.Epoch = of.Incarnation, v.Table.Epoch
	lives := rapid.Bool().Draw(w.rt, "lives")
	if !lives && rapid.Bool().Draw(w.rt, "asked to restart") { // then nobody is out of sync for its being DOWN
		w.play(Command{Body: ServerRestart{ID: note.For, HoldUs: HoldMinUs}})
	}
	if !w.standIn(v, note, lives) {
		return note
	}
	if !lives {
		w.play(Command{Body: NodeDown{ID: note.For, Incarnation: note.Incarnation}})
	}
	w.play(Command{Body: note})
	return note // again
}

// standIn writes to the hashes that the one could act for in the place of the
// other, and reports whether there are any. Where that one lives the ring goes on with what it
// has, and what the stand-in took is not what the ring has.
func (w *world) standIn(v View, note StoodIn, lives bool) bool {
	by, of := v.Table.Index(note.By), v.Table.Index(note.For)
	stood := false
	for hash := range testHashes {
		owners := v.Table.Owners(uint64(hash), nil)
		if len(owners) < 2 || owners[0] != of || owners[1] != by {
			continue
		}
		stood = true
		if lives {
			w.dataOf(note.By)[hash] = -1
			continue
		}
		w.writes[hash]++
		for _, i := range slices.DeleteFunc(owners, func(i int) bool { return i == of }) {
			w.dataOf(v.Table.Servers[i].ID)[hash] = w.writes[hash]
		}
	}
	return stood
}
