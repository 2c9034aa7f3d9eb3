package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// sealedRing is a state in which every field is set.
func sealedRing(t fataler) *rig {
	r := ringOf(t, testParams(), 3)
	r.do(SlaveUp{ID: 5, Slave: ring.Identity{Name: "c"}, Boot: 3})
	r.do(ServiceOut{ID: id(0)})
	m := r.mergeTo()
	r.ready()
	r.do(MergeSeal{MergeID: m.ID})
	return r
}

// TestSnapshot proves that a restored state shows what the old one showed and
// goes on like it.
func TestSnapshot(t *testing.T) {
	r := sealedRing(t)
	b := r.s.Snapshot()
	fresh := New()
	if err := fresh.Restore(b); err != nil {
		t.Fatal(err)
	}
	if got := fresh.Snapshot(); !bytes.Equal(got, b) {
		t.Fatalf("restored state differs:\n%s\n%s", got, b)
	}
	old, v := r.s.View(), fresh.View()
	if v.Table.Epoch != old.Table.Epoch || v.Table.Version != old.Table.Version || !v.Pending.Equal(old.Pending) ||
		v.Merge.Seal != old.Merge.Seal || v.Boot(id(1)) != old.Boot(id(1)) || v.Boot(5) != 3 {
		t.Fatalf("view %+v, want %+v", v, old)
	}
	r.s = fresh
	r.final()
	r.do(MergeCommit{MergeID: v.Merge.ID})
	r.status(0, stOut)
}

// TestRestoreRefuses proves that a snapshot that is damaged, newer or
// impossible leaves the state alone.
func TestRestoreRefuses(t *testing.T) {
	good := sealedRing(t).s.Snapshot()
	with := func(old, new string) []byte {
		body := bytes.Replace(good[snapshotHeader:], []byte(old), []byte(new), 1)
		if bytes.Equal(body, good[snapshotHeader:]) {
			t.Fatalf("%q is not in the snapshot", old)
		}
		return reseal(body)
	}
	newer := bytes.Clone(good)
	newer[9]++
	flipped := bytes.Clone(good)
	flipped[len(flipped)-2] ^= 1
	tests := map[string][]byte{
		"empty":               nil,
		"short":               good[:snapshotHeader-1],
		"cut":                 good[:len(good)-1],
		"newer":               newer,
		"bit flipped":         flipped,
		"not JSON":            reseal([]byte("{")),
		"unknown field":       reseal([]byte(`{"zone":1}`)),
		"members, no ring":    with(`"ring_id":77`, `"ring_id":0`),
		"slots":               with(`"slots":12`, `"slots":13`),
		"replica":             with(`"replica":1`, `"replica":99`),
		"mode":                with(`"hash"`, `"hush"`),
		"number":              with(`"next_number":3`, `"next_number":2`),
		"merge, no table":     with(`"pending":"`, `"pending":null,"group":"`),
		"donor not a member":  with(`"donor":100`, `"donor":7`),
		"server listed twice": with(`"id":101`, `"id":102`),
	}
	for name, b := range tests {
		s := New()
		if err := s.Restore(b); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
		if v := s.View(); v.Table != nil || v.Index != 0 {
			t.Errorf("%s: the state changed", name)
		}
	}
}

// reseal puts a correct header before a body.
func reseal(body []byte) []byte {
	b := make([]byte, snapshotHeader)
	copy(b, snapshotMagic)
	binary.BigEndian.PutUint16(b[8:], snapshotVersion)
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(body))
	return append(b, body...)
}

// FuzzRestore proves that Restore never panics, whatever the bytes behind a
// correct header, and that what it accepts can be used and snapshot again.
func FuzzRestore(f *testing.F) {
	f.Add(sealedRing(f).s.Snapshot()[snapshotHeader:])
	f.Add(New().Snapshot()[snapshotHeader:])
	f.Fuzz(func(t *testing.T, body []byte) {
		s := New()
		if s.Restore(reseal(body)) != nil {
			return
		}
		NextMergeStep(s.View(), 0)
		for _, b := range allBodies() {
			if _, err := s.Apply(s.index+1, Command{Body: b}); errors.Is(err, ErrOutOfOrder) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if err := New().Restore(s.Snapshot()); err != nil {
			t.Fatal(err)
		}
	})
}
