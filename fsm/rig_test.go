package fsm

import (
	"errors"
	"flag"
	"fmt"

	"github.com/chmpx/chmpx/ring"
)

var update = flag.Bool("update", false, "write golden files")

// fataler is what the rig needs of *testing.T and *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// rig drives one State as a leader and its nodes would. Every command goes
// through Encode and Decode.
type rig struct {
	t     fataler
	s     *State
	index uint64
	nowUs int64
	boots uint64
}

func testParams() Params {
	return Params{
		Slots: 12, Replica: 1, DeliverMode: "hash", Placement: "slots",
		DoMerge: true, AutoMerge: true, MaxVoters: 5,
	}
}

// chmpxParams are those with PLACEMENT=chmpx.
func chmpxParams() Params {
	p := testParams()
	p.Slots, p.Placement = 0, "chmpx"
	return p
}

func newRig(t fataler, p Params) *rig {
	r := &rig{t: t, s: New(), nowUs: 1_000_000}
	r.do(RingInit{RingID: 77, Era: 1, Group: "TEST", Params: p})
	return r
}

// apply applies a body as the next entry.
func (r *rig) apply(body Body) Result {
	r.t.Helper()
	return r.applyCommand(Command{Body: body})
}

// applyCommand applies a command, but for its time, as the next entry.
func (r *rig) applyCommand(c Command) Result {
	r.t.Helper()
	r.index += 10
	r.nowUs += 1000
	c.TimeUs = r.nowUs
	b, err := Encode(c)
	if err != nil {
		r.t.Fatalf("encode %s: %v", c.Type(), err)
	}
	if c, err = Decode(b); err != nil {
		r.t.Fatalf("decode %s: %v", b, err)
	}
	res, err := r.s.Apply(r.index, c)
	if err != nil {
		r.t.Fatalf("apply %s: %v", b, err)
	}
	return res
}

// do applies a body that must not be refused.
func (r *rig) do(body Body) Result {
	r.t.Helper()
	res := r.apply(body)
	if res.Err != nil {
		r.t.Fatalf("%s %+v: %v", body.Type(), body, res.Err)
	}
	return res
}

// refused applies a body that must be refused with want.
func (r *rig) refused(body Body, want error) {
	r.t.Helper()
	before := r.s.View()
	res := r.apply(body)
	if !errors.Is(res.Err, want) || res.Changed {
		r.t.Fatalf("%s %+v: got %v (changed %t), want %v", body.Type(), body, res.Err, res.Changed, want)
	}
	after := r.s.View()
	if after.Table != before.Table || after.Merge != before.Merge || after.Pending != before.Pending {
		r.t.Fatalf("%s was refused and changed the view", body.Type())
	}
}

func id(n int) ring.ID { return ring.ID(100 + n) }

// up starts server n with a new boot.
func (r *rig) up(n int) ring.Incarnation {
	r.t.Helper()
	r.boots++
	return r.do(ServerUp{
		ID: id(n), Server: ring.Identity{Name: fmt.Sprintf("s%d", n), CtlPort: 8021},
		Addr: fmt.Sprintf("s%d:8020", n), Boot: 1000 + r.boots, Suspend: true,
	}).Incarnation
}

// attach and detach change the number of programs of server n, kill ends it.
func (r *rig) attach(n int) {
	r.t.Helper()
	r.do(ProgramsChanged{ID: id(n), Incarnation: r.server(n).Incarnation, Count: 1})
}

func (r *rig) detach(n int) {
	r.t.Helper()
	r.do(ProgramsChanged{ID: id(n), Incarnation: r.server(n).Incarnation})
}

func (r *rig) kill(n int) {
	r.t.Helper()
	r.do(NodeDown{ID: id(n), Incarnation: r.server(n).Incarnation})
}

func (r *rig) server(n int) *ring.Server {
	r.t.Helper()
	v := r.s.View().Server(id(n))
	if v == nil {
		r.t.Fatalf("server %d is no member", n)
	}
	return v
}

// status checks the status of server n.
func (r *rig) status(n int, want ring.Status) {
	r.t.Helper()
	if got := r.server(n).Status; got != want {
		r.t.Fatalf("server %d is %v, want %v", n, got, want)
	}
}

// testHashes is how many hashes, from 0, show all that differs between hashes:
// a multiple of every number of slots, and of servers up to 5, in these tests.
const testHashes = 60

// actors returns for how many twelfths of the hashes each server acts, -1 for nobody.
func (r *rig) actors() map[int]int {
	v := r.s.View()
	m := make(map[int]int)
	for hash := range uint64(testHashes) {
		if i := v.Table.Acting(hash); i >= 0 {
			m[int(v.Table.Servers[i].ID)-100]++
		} else {
			m[-1]++
		}
	}
	for n := range m {
		m[n] /= testHashes / 12
	}
	return m
}

// ready and final report every transfer of the running merge.
func (r *rig) ready() {
	r.t.Helper()
	m := r.s.View().Merge
	for _, x := range m.Transfers {
		r.do(TransferReady{MergeID: m.ID, Donor: x.Donor, Receiver: x.Receiver})
	}
}

func (r *rig) final() {
	r.t.Helper()
	m := r.s.View().Merge
	for _, x := range m.Transfers {
		r.do(TransferFinal{MergeID: m.ID, Seal: m.Seal, Donor: x.Donor, Receiver: x.Receiver})
	}
}

// answer does what nodes do about the merge; false when they have nothing to do.
func (r *rig) answer() bool {
	r.t.Helper()
	m := r.s.View().Merge
	if m == nil {
		return false
	}
	for _, x := range m.Transfers {
		if m.Phase == ring.MergeCopying && !x.Ready {
			r.ready()
			return true
		}
		if m.Phase == ring.MergeSealed && !x.Final {
			r.final()
			return true
		}
	}
	return false
}

// settle lets AUTOMERGE and the nodes work until neither has anything to do,
// and returns the types of the leader's proposals.
func (r *rig) settle() []CommandType {
	r.t.Helper()
	var steps []CommandType
	for range 200 {
		if r.answer() {
			continue
		}
		c, ok := NextMergeStep(r.s.View(), r.nowUs)
		if !ok {
			return steps
		}
		r.do(c.Body)
		steps = append(steps, c.Type())
	}
	r.t.Fatalf("the ring does not settle: %v", steps[:20])
	return nil
}

// ringOf returns a rig with servers 0 to n-1 in service.
func ringOf(t fataler, p Params, n int) *rig {
	r := newRig(t, p)
	auto := p.AutoMerge
	for i := range n {
		r.up(i)
		r.attach(i)
	}
	r.s.params.AutoMerge = true
	r.settle()
	r.s.params.AutoMerge = auto
	return r
}

// mergeTo plans and starts the merge that is wanted, whatever AUTOMERGE says.
func (r *rig) mergeTo() *ring.Merge {
	r.t.Helper()
	c, ok := PlanMerge(r.s.View())
	if !ok {
		r.t.Fatalf("nothing to plan: %v", MergeBlocked(r.s.View()))
	}
	r.do(c.Body)
	r.do(MergeStart{})
	return r.s.View().Merge
}

// The statuses of the tests, short.
const (
	stOut        = ring.ServiceOut | ring.Up
	stOutSuspend = ring.ServiceOut | ring.Up | ring.Suspend
	stOutDown    = ring.ServiceOut | ring.Down
	stIn         = ring.ServiceIn | ring.Up
	stInSuspend  = ring.ServiceIn | ring.Up | ring.Suspend
	stInPending  = ring.ServiceIn | ring.Up | ring.Pending
	stInDown     = ring.ServiceIn | ring.Down
	stAdd        = ring.ServiceIn | ring.Up | ring.Add | ring.Pending
	stDelete     = ring.ServiceIn | ring.Up | ring.Delete | ring.Pending
)
