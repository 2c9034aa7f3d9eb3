package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/chmpx/chmpx/ring"
)

// levelled is a build of up to level 3 in whose time two commands are new.
func levelled(highest int) Build {
	return Build{
		Levels:   Levels{Min: 1, Max: highest},
		Commands: map[CommandType]int{CommandSuspendMerge: 2, CommandMergeAbort: 3},
	}
}

// ringOfBuild returns a ring without members as a build keeps it.
func ringOfBuild(t fataler, b Build) *rig {
	r := &rig{t: t, s: NewOf(b), nowUs: 1_000_000}
	r.do(RingInit{RingID: 77, Era: 1, Group: "TEST", Params: testParams()})
	return r
}

// upAs is a start of server n in a build.
func (r *rig) upAs(n int, l Levels) ServerUp {
	r.boots++
	up := ServerUp{ID: id(n), Addr: "x:8020", Boot: 1000 + r.boots, Levels: l}
	up.Server.Name, up.Server.CtlPort = string(rune('a'+n)), 8021
	return up
}

// TestEveryCommandHasALevel proves that each command type says from which level on a
// build understands it, and that this build understands them all.
func TestEveryCommandHasALevel(t *testing.T) {
	for _, b := range allBodies() {
		if l := (Build{}).LevelOf(b.Type()); l < LevelMin || l > Level {
			t.Errorf("%s has level %d, this build speaks %d to %d", b.Type(), l, LevelMin, Level)
		}
	}
}

// TestLevel proves the level of a ring: what all members speak, those that are down
// and slaves too, those that are forgotten not, and who said nothing speaks 1.
func TestLevel(t *testing.T) {
	r := ringOfBuild(t, levelled(3))
	level := func(want int, back string) {
		t.Helper()
		v := r.s.View()
		if got := v.Level(); got != want || LevelNames(v.HoldsBack()) != back {
			t.Fatalf("level %d, held back by %q; want %d, %q", got, LevelNames(v.HoldsBack()), want, back)
		}
	}
	level(1, "")
	r.do(r.upAs(0, Levels{Max: 3}))
	level(3, "")
	r.do(r.upAs(1, Levels{Min: 1, Max: 2}))
	level(2, "b:8021 (level 2)")
	r.do(r.upAs(2, Levels{}))
	level(1, "c:8021 (level 1)")
	r.kill(2)
	level(1, "c:8021 (level 1)")
	r.do(ServerForget{ID: id(2)})
	level(1, "c:8021 (level 1)")
	r.do(ServerForgotten{ID: id(2)})
	level(2, "b:8021 (level 2)")
	r.do(r.upAs(1, Levels{Max: 3}))
	level(3, "")
	r.do(SlaveUp{ID: 5, Slave: ring.Identity{Name: "s", CtlPort: 1}, Boot: 5})
	level(1, "slave s:1 (level 1)")
	r.do(SlaveDown{ID: 5, Boot: 5})
	level(1, "slave s:1 (level 1)")
	r.do(SlaveForget{ID: 5})
	level(3, "")
}

// TestLevelAdmits proves who may come up: not who is too old for what the log has or
// another member insists on, nor who insists on what another one lacks, nor who says what is
// impossible; and that a refusal changes nothing.
func TestLevelAdmits(t *testing.T) {
	r := ringOfBuild(t, levelled(3))
	r.do(r.upAs(0, Levels{Max: 3}))
	r.do(r.upAs(1, Levels{Min: 2, Max: 3}))
	r.refused(r.upAs(2, Levels{}), ErrLevel) // b insists on 2
	for _, l := range []Levels{{Min: -1}, {Max: -1}, {Min: 3, Max: 2}, {Max: levelMax + 1}} {
		r.refused(r.upAs(2, l), ErrInvalid)
	}
	r.do(r.upAs(1, Levels{Max: 3})) // an older build, which does not
	r.do(r.upAs(2, Levels{}))
	r.refused(r.upAs(1, Levels{Min: 2, Max: 3}), ErrLevel) // c lacks it
	r.do(r.upAs(2, Levels{Min: 2, Max: 3}))                // it held the ring back itself
	res := r.apply(SuspendMerge{On: true})
	if res.Err != nil || !res.Changed || r.s.View().LevelUsed != 2 {
		t.Fatalf("%+v, level used %d", res, r.s.View().LevelUsed)
	}
	r.refused(r.upAs(0, Levels{}), ErrLevel)
	r.refused(SlaveUp{ID: 5, Slave: ring.Identity{Name: "s"}, Boot: 5}, ErrLevel)
	r.do(SlaveUp{ID: 5, Slave: ring.Identity{Name: "s"}, Boot: 5, Levels: Levels{Max: 2}})
	// Also what is refused is in the log.
	if res := r.apply(MergeAbort{MergeID: 1}); res.Err == nil || !res.Changed || r.s.View().LevelUsed != 3 {
		t.Fatalf("%+v, level used %d", res, r.s.View().LevelUsed)
	}
	r.refused(r.upAs(0, Levels{Max: 2}), ErrLevel)
}

// TestOlderBuildStops proves that an older build takes neither an entry nor a snapshot
// that it does not understand, and says so; and that it takes what has nothing new in it.
func TestOlderBuildStops(t *testing.T) {
	r := ringOfBuild(t, levelled(3))
	r.do(r.upAs(0, Levels{Max: 3}))
	old := NewOf(levelled(1))
	if err := old.Restore(r.s.Snapshot()); err != nil {
		t.Fatalf("nothing new in it: %v", err)
	}
	before := old.Snapshot()
	if _, err := old.Apply(1000, Command{Body: SuspendMerge{On: true}}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("an entry of level 2: %v", err)
	}
	r.do(SuspendMerge{On: true})
	if err := old.Restore(r.s.Snapshot()); !errors.Is(err, ErrLevel) || !errors.Is(err, ErrSnapshot) {
		t.Errorf("a snapshot of level 2: %v", err)
	}
	if !bytes.Equal(old.Snapshot(), before) {
		t.Error("what was not taken has changed the state")
	}
}

// TestNewerFormats proves that a snapshot, or an entry, of a later format is told from damage: whoever
// cannot read it is too old.
func TestNewerFormats(t *testing.T) {
	r := ringOfBuild(t, Build{})
	r.do(r.upAs(0, Levels{}))
	sum := func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[snapshotHeader:]))
		return b
	}
	now := r.s.Snapshot()
	version := slices.Clone(now)
	binary.BigEndian.PutUint16(version[8:], snapshotVersion+1)
	field := sum(bytes.Replace(now, []byte(`{"`), []byte(`{"new_field":1,"`), 1))
	broken := sum(bytes.Replace(now, []byte(`{"`), []byte(`{"new_field":1,,"`), 1))
	flipped := slices.Clone(now)
	flipped[len(flipped)-2] ^= 1
	for name, tt := range map[string]struct {
		snapshot []byte
		old      bool
	}{"version": {version, true}, "field": {field, true}, "broken": {broken, false}, "flipped": {flipped, false}} {
		err := New().Restore(tt.snapshot)
		if !errors.Is(err, ErrSnapshot) || errors.Is(err, ErrLevel) != tt.old {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLevelOne proves that entries and snapshots of a ring of level 1 look as if there
// were no levels, so that those of before are of level 1.
func TestLevelOne(t *testing.T) {
	r := ringOf(t, testParams(), 2)
	r.do(SlaveUp{ID: 5, Slave: ring.Identity{Name: "c"}, Boot: 3, Levels: Levels{Min: 1, Max: 1}})
	up := r.upAs(0, Build{}.Speaks().Brief())
	r.do(up)
	b, err := Encode(Command{Body: up})
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b) + string(r.s.Snapshot()); strings.Contains(strings.ToLower(s), "level") {
		t.Errorf("levels are encoded: %s", s)
	}
	if v := r.s.View(); v.Level() != 1 || v.LevelNeeded(0) != 1 || v.HoldsBack() != nil {
		t.Errorf("level %d, needed %d", v.Level(), v.LevelNeeded(0))
	}
}

// TestLevelHistories proves, for what a leader commits that minds the levels: every member
// understands all that the log has and is understood by the others; the level used never falls; who
// comes does not raise the level of a ring that has members, and who goes does not lower it; and a node that
// starts from a snapshot at any place shows the same as one that has applied everything.
func TestLevelHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ringOfBuild(t, levelled(3))
		other := NewOf(levelled(3))
		if err := other.Restore(r.s.Snapshot()); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := r.s.View()
			body := levelStep(t, r, before)
			if (Build{Commands: levelled(3).Commands}).LevelOf(body.Type()) > before.Level() {
				continue // a leader does not propose it
			}
			res := r.apply(body)
			same, err := other.Apply(r.index, Command{TimeUs: r.nowUs, Body: body})
			if err != nil || res.Changed != same.Changed || (res.Err == nil) != (same.Err == nil) {
				t.Fatalf("%+v and %+v (%v)", res, same, err)
			}
			checkLevels(t, before, r.s.View())
			if rapid.Bool().Draw(t, "snapshot") {
				fresh := NewOf(levelled(3))
				if err := fresh.Restore(other.Snapshot()); err != nil {
					t.Fatal(err)
				}
				other = fresh
			}
			if !bytes.Equal(other.Snapshot(), r.s.Snapshot()) || !reflect.DeepEqual(other.View().Below(3), r.s.View().Below(3)) {
				t.Fatalf("states differ:\n%s\n%s", other.Snapshot(), r.s.Snapshot())
			}
		}
	})
}

// levelStep draws a command about members.
func levelStep(t *rapid.T, r *rig, v View) Body {
	n := rapid.IntRange(0, 3).Draw(t, "node")
	l := Levels{Min: rapid.IntRange(0, 3).Draw(t, "min"), Max: rapid.IntRange(0, 3).Draw(t, "max")}
	slave := ring.ID(5 + n)
	switch rapid.IntRange(0, 8).Draw(t, "what") {
	case 0:
		if s := v.Server(id(n)); s != nil {
			return NodeDown{ID: s.ID, Incarnation: s.Incarnation}
		}
	case 1:
		return ServerForget{ID: id(n)}
	case 2:
		return ServerForgotten{ID: id(n)}
	case 3:
		return SlaveUp{ID: slave, Slave: ring.Identity{Name: "s"}, Boot: uint64(r.index), Levels: l}
	case 4:
		return SlaveForget{ID: slave}
	case 5:
		return SuspendMerge{On: rapid.Bool().Draw(t, "on")}
	case 6:
		return MergeAbort{MergeID: 1}
	}
	return r.upAs(n, l)
}

// checkLevels checks what must hold between two views in a row.
func checkLevels(t *rapid.T, before, after View) {
	if after.LevelUsed < before.LevelUsed {
		t.Fatalf("level used fell from %d to %d", before.LevelUsed, after.LevelUsed)
	}
	count := func(v View) int { return len(v.Members) + len(v.Slaves) }
	switch was, is := before.Level(), after.Level(); {
	case count(after) > count(before) && count(before) > 0 && is > was:
		t.Fatalf("who came raised the level from %d to %d", was, is)
	case count(after) < count(before) && count(after) > 0 && is < was:
		t.Fatalf("who went lowered the level from %d to %d", was, is)
	}
	if count(after) > 0 && after.LevelNeeded(0) > after.Level() {
		t.Fatalf("the ring needs level %d and has members of level %d", after.LevelNeeded(0), after.Level())
	}
}
