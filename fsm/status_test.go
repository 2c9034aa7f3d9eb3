package fsm

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// transition is one row of the tables of events and commands.
type transition struct {
	name   string
	params Params
	events func(r *rig)
	want   ring.Status // of server 0
}

// eventRows are what happens to nodes and programs.
func eventRows(single, double Params) []transition {
	return []transition{
		{"first start", double, func(r *rig) { r.up(9); r.status(9, stOutSuspend) }, stIn},
		{"first program", double, func(r *rig) { r.up(9); r.attach(9); r.status(9, stOut) }, stIn},
		{"out, last program", double, func(r *rig) { r.up(9); r.attach(9); r.detach(9); r.status(9, stOutSuspend) }, stIn},
		{"out, down", double, func(r *rig) { r.up(9); r.attach(9); r.kill(9); r.status(9, stOutDown) }, stIn},
		{"out, restart", double, func(r *rig) { r.up(9); r.attach(9); r.kill(9); r.up(9); r.status(9, stOutSuspend) }, stIn},
		{"in, down", double, func(r *rig) { r.kill(0) }, stInDown},
		{"in, restart seen, replica acted", double, func(r *rig) { r.kill(0); r.up(0) }, stInPending},
		{"in, restart seen, nobody acted", single, func(r *rig) { r.kill(0); r.up(0) }, stIn},
		{"in, restart unseen", double, func(r *rig) { r.up(0) }, stIn},
		{"in, restart, program stays away", double, func(r *rig) { r.up(0); r.detach(0) }, stInSuspend},
		{"in, suspended, restart", double, func(r *rig) { r.detach(0); r.kill(0); r.up(0) }, stInSuspend},
		{"in, suspended, down", double, func(r *rig) { r.detach(0); r.kill(0) }, stInDown},
		{"in, program leaves", double, func(r *rig) { r.detach(0) }, stInSuspend},
		{"in, program returns, replica acted", double, func(r *rig) { r.detach(0); r.attach(0) }, stInPending},
		{"in, program returns, nobody acted", single, func(r *rig) { r.detach(0); r.attach(0) }, stIn},
		{"pending, program leaves", double, func(r *rig) { r.detach(0); r.attach(0); r.detach(0) }, stInSuspend},
	}
}

// commandRows are what operators ask for, and what becomes of it.
func commandRows(double Params) []transition {
	return []transition{
		{"SERVICEIN", double, func(r *rig) {
			r.up(9)
			r.attach(9)
			r.do(ServiceIn{ID: id(9)})
			r.status(9, stAdd)
		}, stIn},
		{"ADD, program leaves", double, func(r *rig) {
			r.up(9)
			r.attach(9)
			r.do(ServiceIn{ID: id(9)})
			r.detach(9)
			r.status(9, stAdd|ring.Suspend)
		}, stIn},
		{"ADD done, program leaves", double, func(r *rig) {
			r.up(9)
			r.attach(9)
			r.do(ServiceIn{ID: id(9)})
			r.mergeTo()
			r.ready()
			r.status(9, stAdd.WithOperate(ring.Done))
			r.detach(9)
			r.status(9, stAdd|ring.Suspend)
		}, stIn},
		{"ADD, down", double, func(r *rig) {
			r.up(9)
			r.attach(9)
			r.do(ServiceIn{ID: id(9)})
			r.kill(9)
			r.status(9, stOutDown)
		}, stIn},
		{"ADD, restart unseen", double, func(r *rig) {
			r.up(9)
			r.attach(9)
			r.do(ServiceIn{ID: id(9)})
			r.up(9)
			r.status(9, stOutSuspend)
		}, stIn},
		{"ADD, SERVICEOUT", double, func(r *rig) {
			r.up(9)
			r.attach(9)
			r.do(ServiceIn{ID: id(9)})
			r.do(ServiceOut{ID: id(9)})
			r.status(9, stOut)
		}, stIn},
		{"SERVICEOUT", double, func(r *rig) { r.do(ServiceOut{ID: id(0)}) }, stDelete},
		{"SERVICEOUT of a suspended server", double, func(r *rig) { r.detach(0); r.do(ServiceOut{ID: id(0)}) }, stDelete | ring.Suspend},
		{"SERVICEOUT of a server that is down", double, func(r *rig) { r.kill(0); r.do(ServiceOut{ID: id(0)}) }, stInDown | ring.Delete | ring.Pending},
		{"DELETE, down", double, func(r *rig) { r.do(ServiceOut{ID: id(0)}); r.kill(0) }, stInDown | ring.Delete | ring.Pending},
		{"DELETE, restart", double, func(r *rig) { r.do(ServiceOut{ID: id(0)}); r.kill(0); r.up(0) }, stDelete},
		{"DELETE by AUTOMERGE, restart", double, func(r *rig) {
			r.kill(0)
			r.do(ServiceOut{ID: id(0), Auto: true})
			r.up(0)
		}, stInPending},
		{"DELETE, program leaves", double, func(r *rig) { r.do(ServiceOut{ID: id(0)}); r.detach(0) }, stDelete | ring.Suspend},
		{"DELETE, SERVICEIN", double, func(r *rig) { r.do(ServiceOut{ID: id(0)}); r.do(ServiceIn{ID: id(0)}) }, stIn},
		{"DELETE suspended, SERVICEIN", double, func(r *rig) {
			r.do(ServiceOut{ID: id(0)})
			r.detach(0)
			r.do(ServiceIn{ID: id(0)})
		}, stInSuspend},
		{"ABORTMERGE takes SERVICEOUT back", double, func(r *rig) {
			r.do(ServiceOut{ID: id(0)})
			r.do(MergeAbort{Operator: true})
		}, stIn},
		{"ABORTMERGE takes SERVICEOUT of a dead server back", double, func(r *rig) {
			r.kill(0)
			r.do(ServiceOut{ID: id(0)})
			r.do(MergeAbort{Operator: true})
		}, stInDown},
	}
}

// TestStatusTransitions proves each row of the tables of events and commands:
// what a server's status becomes, with 3 servers in service, one owner in
// reserve for each slot, and nothing automatic.
func TestStatusTransitions(t *testing.T) {
	single := testParams()
	single.Replica = 0
	for _, tt := range append(eventRows(single, testParams()), commandRows(testParams())...) {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.params
			p.AutoMerge = false
			r := ringOf(t, p, 3)
			tt.events(r)
			r.status(0, tt.want)
		})
	}
}

// TestRefusals proves that commands in the wrong status are refused with the
// error that the control port knows, and change nothing.
func TestRefusals(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	r := ringOf(t, p, 2)
	r.refused(RingInit{RingID: 5, Era: 1, Group: "B", Params: p}, ErrRingExists)
	r.refused(ServiceIn{ID: id(7)}, ErrUnknownNode)
	r.refused(ServiceOut{ID: id(7)}, ErrUnknownNode)
	r.refused(ServiceIn{ID: id(0)}, ErrStatusNotAllowed)
	r.refused(ServerUp{ID: id(4)}, ErrInvalid)
	r.refused(NodeDown{ID: id(0), Incarnation: r.server(0).Incarnation - 1}, ErrStale)
	r.refused(ProgramsChanged{ID: id(0), Incarnation: r.server(0).Incarnation + 1, Count: 1}, ErrStale)
	r.refused(MergeStart{}, ErrNothingPlanned)
	r.refused(MergeAbort{MergeID: 3}, ErrNoMerge)
	r.refused(PendingTable{}, ErrBaseChanged)
	r.refused(PendingTable{Base: r.s.View().Table.Epoch, Delta: []byte("nonsense")}, ErrInvalid)

	r.up(2)
	r.refused(ServiceIn{ID: id(2)}, ErrStatusNotAllowed) // suspended
	r.refused(ServiceOut{ID: id(2)}, ErrStatusNotAllowed)
	r.kill(2)
	r.refused(ServiceOut{ID: id(2)}, ErrAlreadyOut)
	r.refused(NodeDown{ID: id(2), Incarnation: r.server(2).Incarnation}, ErrStale)

	r.do(ServiceOut{ID: id(0)})
	r.refused(ServiceOut{ID: id(0)}, ErrStatusNotAllowed)
	r.refused(ServiceOut{ID: id(1)}, ErrLastServer)

	r.mergeTo()
	r.refused(ServiceIn{ID: id(0)}, ErrOperating)
	r.refused(ServiceOut{ID: id(1)}, ErrOperating)
	r.refused(MergeStart{}, ErrOperating)
	r.refused(PendingTable{Base: r.s.View().Table.Epoch}, ErrOperating)
}

// TestNumbers proves that base and pending numbers follow the ring order, and
// that a server's own number is never given twice.
func TestNumbers(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	r := ringOf(t, p, 2)
	r.up(2)
	r.attach(2)
	r.do(ServiceIn{ID: id(2)})
	check := func(n int, base, pending int32) {
		t.Helper()
		if v := r.server(n); v.BaseHash != base || v.PendingHash != pending {
			t.Fatalf("server %d: base %d pending %d, want %d %d", n, v.BaseHash, v.PendingHash, base, pending)
		}
	}
	check(0, 0, 0)
	check(1, 1, 1)
	check(2, -1, 2)
	r.do(ServiceOut{ID: id(0)})
	check(0, 0, -1)
	check(1, 1, 0)
	check(2, -1, 1)
	seen := map[uint16]bool{}
	for _, v := range r.s.View().Table.Servers {
		if seen[v.Number] {
			t.Fatalf("number %d given twice", v.Number)
		}
		seen[v.Number] = true
	}
}

// TestWholeRingRestart proves that a ring all of whose nodes were killed and
// started again routes as before, whether or not a NodeDown came in between.
func TestWholeRingRestart(t *testing.T) {
	p := testParams()
	p.AutoMerge = false
	r := ringOf(t, p, 3)
	before := r.actors()
	for n := range 3 {
		r.up(n)
	}
	for n, want := range before {
		if got := r.actors()[n]; got != want {
			t.Fatalf("server %d acts for %d slots, want %d", n, got, want)
		}
	}
	r.kill(1)
	for n := range 3 {
		r.up(n)
	}
	r.status(0, stIn)
	r.status(1, stInPending)
	if lost := r.actors()[-1]; lost != 0 {
		t.Fatalf("%d slots without acting owner", lost)
	}
}

// TestSameBootIsNoRestart proves that a ServerUp that is proposed again keeps
// the incarnation, and that a false verdict costs it.
func TestSameBootIsNoRestart(t *testing.T) {
	r := newRig(t, testParams())
	b := ServerUp{ID: id(0), Server: ring.Identity{Name: "s0"}, Addr: "s0:1", Boot: 5, Suspend: true}
	first := r.do(b)
	again := r.do(b)
	if again.Changed || again.Incarnation != first.Incarnation {
		t.Fatalf("the second ServerUp: %+v after %+v", again, first)
	}
	r.kill(0)
	if back := r.do(b); back.Incarnation <= first.Incarnation {
		t.Fatalf("incarnation %d after %d", back.Incarnation, first.Incarnation)
	}
}

// TestRepeatedProposals proves that a proposal counts once, that its refusal
// is remembered with it, and that what is remembered stays bounded.
func TestRepeatedProposals(t *testing.T) {
	r := newRig(t, testParams())
	send := func(proposer, number uint64, b Body) Result {
		t.Helper()
		r.index++
		res, err := r.s.Apply(r.index, Command{Proposer: proposer, Number: number, Body: b})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	on, off := SuspendMerge{On: true}, SuspendMerge{}
	if res := send(9, 1, on); !res.Changed || res.Repeat {
		t.Fatalf("first: %+v", res)
	}
	send(9, 2, off)
	if res := send(9, 2, off); !res.Repeat || res.Err != nil {
		t.Fatalf("second time: %+v", res)
	}
	if res := send(9, 1, on); !res.Repeat || res.Changed || res.Err == nil {
		t.Fatalf("overtaken: %+v", res)
	}
	send(9, 3, ServiceIn{ID: id(1)})
	if res := send(9, 3, ServiceIn{ID: id(1)}); !res.Repeat || res.Err != ErrUnknownNode {
		t.Fatalf("refused proposal again: %+v", res)
	}
	for n := range uint64(500) {
		send(1000+n, 1, on)
	}
	if n := len(r.s.proposals); n > strangersMax {
		t.Fatalf("%d proposers remembered", n)
	}
}

// TestSlaves proves the list of slaves and that it leaves the epoch alone.
func TestSlaves(t *testing.T) {
	r := ringOf(t, testParams(), 1)
	table := r.s.View().Table
	who := ring.Identity{Name: "c", CtlPort: 8022}
	r.do(SlaveUp{ID: 50, Slave: who, Boot: 1})
	r.do(SlaveUp{ID: 40, Slave: who, Boot: 2})
	r.refused(SlaveUp{ID: id(0), Slave: who, Boot: 2}, ErrInvalid)
	r.refused(SlaveDown{ID: 50, Boot: 9}, ErrStale)
	r.refused(SlaveDown{ID: 51, Boot: 1}, ErrUnknownNode)
	r.do(SlaveDown{ID: 50, Boot: 1})
	v := r.s.View()
	if len(v.Slaves) != 2 || v.Slaves[0].ID != 40 || v.Slaves[0].Status != ring.Slave|ring.Up || v.Slaves[1].Status != ring.Slave|ring.Down {
		t.Fatalf("slaves %+v", v.Slaves)
	}
	if v.Boot(50) != 1 || v.Boot(id(0)) == 0 || v.Boot(3) != 0 {
		t.Fatalf("boots %d %d %d", v.Boot(50), v.Boot(id(0)), v.Boot(3))
	}
	r.do(SlaveForget{ID: 50})
	r.refused(SlaveForget{ID: 50}, ErrUnknownNode)
	if v := r.s.View(); len(v.Slaves) != 1 || v.Table != table {
		t.Fatalf("%d slaves, table replaced: %t", len(v.Slaves), v.Table != table)
	}
}
