package dataplane

import (
	"testing"
	"time"
)

// TestHotParts proves which programs a hot waiter is left: the last ones that had
// something, no more than its bound, and none more than those while it waits;
// those that end are not among them.
func TestHotParts(t *testing.T) {
	h := &hot{}
	all := make([]*attachment, hotPartsMax+3)
	for i := range all {
		all[i] = &attachment{}
	}
	for _, a := range all[:hotPartsMax] {
		h.leaveProgram(a)
		if h.leaveProgram(a) {
			t.Fatal("left to a hot waiter that is not there")
		}
	}
	h.leaveProgram(all[hotPartsMax])
	if len(h.programs) != hotPartsMax {
		t.Fatalf("%d programs, want %d", len(h.programs), hotPartsMax)
	}
	h.on = true
	if !h.leaveProgram(all[hotPartsMax]) {
		t.Error("the newest was not kept")
	}
	if h.leaveProgram(all[hotPartsMax+1]) {
		t.Error("one more was taken while somebody waits hot")
	}
	h.forget(nil, all[hotPartsMax])
	if !h.leaveProgram(all[hotPartsMax+1]) {
		t.Error("the place of one that ended is not free")
	}
	broken := all[hotPartsMax+2]
	broken.broken = true
	h.forget(nil, all[hotPartsMax+1])
	if h.leaveProgram(broken) {
		t.Error("a corrupt segment is looked at")
	}
}

// TestHotWaitForgivesWork proves that what a pump does between its decision to wait hot and
// the first look is not taken for time lost to others.
func TestHotWaitForgivesWork(t *testing.T) {
	for stop := time.Now().Add(time.Minute); time.Now().Before(stop); { // a busy machine may really lose time
		p := &Plane{start: time.Now(), cfg: Config{HotWait: true}}
		p.mu.Lock()
		if !p.beginHot() {
			t.Fatal("the first wait is not hot")
		}
		p.mu.Unlock()
		p.start = p.start.Add(-10 * time.Millisecond) // that long it writes
		var dead error
		p.waitHot(&dead)
		p.mu.Lock()
		again := p.beginHot()
		p.mu.Unlock()
		if again {
			return
		}
	}
	t.Error("no wait is hot any more")
}

// TestAwakeLeavesBroken proves that a segment that is left alone is not written
// by a hot waiter that begins.
func TestAwakeLeavesBroken(t *testing.T) {
	h := &hot{programs: []*attachment{{broken: true}}} // no segment: any access panics
	h.begin()
}
