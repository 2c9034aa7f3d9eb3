package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/chmpx/chmpx/ring"
)

// modelServers is how many servers the random histories know.
const modelServers = 4

// world plays a random history on a rig and on a second replica, which is
// restored from snapshots now and then.
type world struct {
	*rig
	rt      *rapid.T
	replica *State
	suspend bool                         // what SUSPENDMERGE was last set to
	last    Command                      // the last one that named its proposer
	refusal error                        // and what it was refused with
	writes  [testHashes]int              // how often each hash was written
	data    map[ring.ID]*[testHashes]int // up to which write each server has it
}

func drawParams(t *rapid.T) Params {
	p := testParams()
	p.Slots = rapid.SampledFrom([]int{1, 3, 12}).Draw(t, "slots")
	if rapid.IntRange(0, 2).Draw(t, "placement") == 0 {
		p = chmpxParams()
	}
	p.Replica = rapid.IntRange(0, 2).Draw(t, "replica")
	p.DoMerge = rapid.IntRange(0, 3).Draw(t, "domerge") > 0
	p.AutoMerge = rapid.Bool().Draw(t, "automerge")
	return p
}

// draw returns a random command: mostly sensible ones, some void ones.
func (w *world) draw() Body {
	v := w.s.View()
	n := rapid.IntRange(0, modelServers-1).Draw(w.rt, "server")
	inc := ring.Incarnation(0)
	if s := v.Server(id(n)); s != nil {
		inc = s.Incarnation - ring.Incarnation(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(w.rt, "stale"))
	}
	mergeID := uint64(0)
	if v.Merge != nil {
		mergeID = v.Merge.ID
	}
	switch rapid.IntRange(0, 31).Draw(w.rt, "what") {
	case 0, 1:
		return w.serverUp(n, rapid.Bool().Draw(w.rt, "reboot"))
	case 2:
		return NodeDown{ID: id(n), Incarnation: inc}
	case 3, 4:
		return ProgramsChanged{ID: id(n), Incarnation: inc, Count: rapid.IntRange(0, 2).Draw(w.rt, "programs")}
	case 5:
		return ServiceIn{ID: id(n)}
	case 6:
		return ServiceOut{ID: id(n), Auto: rapid.Bool().Draw(w.rt, "auto")}
	case 7, 8:
		return w.plan(v)
	case 9:
		return MergeStart{}
	case 10:
		return MergeCommit{MergeID: mergeID}
	case 11:
		return MergeUnseal{MergeID: mergeID}
	case 12:
		return MergeAbort{MergeID: mergeID, Operator: rapid.Bool().Draw(w.rt, "operator")}
	case 13:
		return SuspendMerge{On: rapid.Bool().Draw(w.rt, "on")}
	case 14:
		return w.slave(ring.ID(n + 1))
	case 15:
		return RequestMerge(v)
	case 16:
		return MergeComplete{Force: rapid.Bool().Draw(w.rt, "force")}
	case 17:
		return ServerRestart{ID: id(n), HoldUs: rapid.Int64Range(HoldMinUs-1, HoldMaxUs).Draw(w.rt, "hold")}
	case 18:
		return HoldEnd{ID: id(n), Incarnation: inc}
	case 19:
		return ServerReplace{Old: id(n), New: id(rapid.IntRange(0, modelServers-1).Draw(w.rt, "new"))}
	case 20:
		return ServerForget{ID: id(n)}
	case 21:
		return ServerForgotten{ID: id(n)}
	case 22:
		return w.stoodIn(v, n, inc)
	}
	if operating(v.Merge) && rapid.IntRange(0, 3).Draw(w.rt, "report") > 0 {
		return w.report(v)
	}
	v.Params.AutoMerge, v.SuspendMerge, v.MergeHeld = true, false, false
	if c, ok := NextMergeStep(v, w.nowUs); ok {
		return c.Body
	}
	return MergeSeal{MergeID: mergeID}
}

// plan is a pending table: the planner's, any other one, or nonsense.
func (w *world) plan(v View) Body {
	if c, ok := PlanMerge(v); ok && rapid.Bool().Draw(w.rt, "planned") {
		return c.Body
	}
	var numbers []uint16
	for _, s := range v.Table.Servers {
		if mayOwn(s.Status) {
			numbers = append(numbers, s.Number)
		}
	}
	if len(numbers) == 0 {
		return PendingTable{Base: v.Table.Epoch, Delta: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(w.rt, "delta")}
	}
	slots := v.Params.Slots
	if v.Params.chmpx() { // mostly refused, but may be the planner's
		slots = len(numbers)
	}
	p := ring.NewAssignment(slots, v.Params.width())
	for slot := range p.Slots() {
		owners := rapid.Permutation(numbers).Draw(w.rt, "owners")
		copy(p.Owners[slot*p.Width:(slot+1)*p.Width], owners)
	}
	return PendingTable{Base: v.Table.Epoch, Delta: p.Delta(v.Table.Base)}
}

// report is what a node would say about the running merge.
func (w *world) report(v View) Body {
	if len(v.Merge.Transfers) == 0 {
		return MergeSeal{MergeID: v.Merge.ID}
	}
	x := rapid.SampledFrom(v.Merge.Transfers).Draw(w.rt, "transfer")
	for _, y := range v.Merge.Transfers { // what is missing is more likely than a repeat
		if (v.Merge.Phase == ring.MergeSealed && !y.Final || !y.Ready) && rapid.Bool().Draw(w.rt, "this") {
			x = y
			break
		}
	}
	if v.Merge.Phase == ring.MergeSealed {
		return TransferFinal{MergeID: v.Merge.ID, Seal: v.Merge.Seal, Donor: x.Donor, Receiver: x.Receiver}
	}
	return TransferReady{MergeID: v.Merge.ID, Donor: x.Donor, Receiver: x.Receiver}
}

func (w *world) slave(id ring.ID) Body {
	boot := rapid.Uint64Range(1, 3).Draw(w.rt, "boot")
	switch rapid.IntRange(0, 2).Draw(w.rt, "slave") {
	case 0:
		return SlaveDown{ID: id, Boot: boot}
	case 1:
		return SlaveForget{ID: id}
	}
	return SlaveUp{ID: id, Slave: ring.Identity{Name: "c"}, Boot: boot}
}

func (w *world) serverUp(n int, reboot bool) ServerUp {
	boot := w.s.View().Boot(id(n))
	if boot == 0 || reboot {
		w.boots++
		boot = 1000 + w.boots
	}
	return ServerUp{
		ID: id(n), Server: ring.Identity{Name: fmt.Sprintf("s%d", n)}, Addr: "h:1", Boot: boot,
		Suspend: rapid.Bool().Draw(w.rt, "suspend"),
	}
}

// Proposers that name themselves in random histories: no boots of nodes, and
// more than are remembered beside those.
const (
	firstProposer = 100
	lastProposer  = firstProposer + strangersMax + 6
)

// command is a body with a proposer, or without one, or a repeat of the last
// command with one.
func (w *world) command(body Body) Command {
	switch rapid.IntRange(0, 5).Draw(w.rt, "proposer") {
	case 0:
		if w.last.Proposer != 0 {
			return w.last
		}
	case 1, 2:
		w.last = Command{Proposer: rapid.Uint64Range(firstProposer, lastProposer).Draw(w.rt, "name"), Number: w.index, Body: body}
		return w.last
	}
	return Command{Body: body}
}

// step applies a body on both replicas and checks everything that must hold.
func (w *world) step(body Body) { w.play(w.command(body)) }

// play is step for a command as it is.
func (w *world) play(c Command) {
	before := w.s.View()
	repeat := c.Proposer != 0 && c.Number < w.index // of a number that was applied
	body := c.Body
	res := w.applyCommand(c)
	after := w.s.View()
	w.checkProposal(c, res, repeat, before.Table == after.Table && before.Merge == after.Merge)
	if b, ok := body.(SuspendMerge); ok && !repeat {
		w.suspend = b.On
	}
	restored := rapid.IntRange(0, 9).Draw(w.rt, "restore") == 0
	if restored {
		fresh := New()
		if err := fresh.Restore(w.replica.Snapshot()); err != nil {
			w.rt.Fatalf("restore: %v", err)
		}
		w.replica = fresh
	}
	c.TimeUs = w.nowUs
	same, err := w.replica.Apply(w.index, c)
	if err != nil {
		w.rt.Fatalf("replica: %v", err)
	}
	if fmt.Sprint(same) != fmt.Sprint(res) {
		w.rt.Fatalf("%s %+v: %+v, the replica says %+v", body.Type(), body, res, same)
	}
	if a, b := w.s.Snapshot(), w.replica.Snapshot(); !bytes.Equal(a, b) {
		w.rt.Fatalf("replicas differ after %s %+v:\n%s\n%s", body.Type(), body, a, b)
	}
	if restored {
		if diff := cmp.Diff(after, w.replica.View(), cmpopts.EquateEmpty(), cmp.AllowUnexported(ring.Table{}, ring.SlotSet{})); diff != "" {
			w.rt.Fatalf("%s %+v: a restored replica shows something else (-want +got):\n%s", body.Type(), body, diff)
		}
	}
	w.checkState(after)
	if res.Repeat {
		return // checkProposal has seen that it changed nothing
	}
	w.checkEpoch(before, after, body, res)
	w.checkOneOwner(before, after, body)
	w.moveData(before, after, body, res)
	if res.Err != nil && (res.Changed || before.Table != after.Table || before.Merge != after.Merge) {
		w.rt.Fatalf("%s was refused (%v) and changed something", body.Type(), res.Err)
	}
}

// checkProposal checks that a proposal counts once, and that whoever repeats it
// hears what became of it.
func (w *world) checkProposal(c Command, res Result, repeat, same bool) {
	if c.Proposer == 0 {
		return
	}
	if res.Repeat != repeat || repeat && (res.Changed || !same) {
		w.rt.Fatalf("%s of %d, number %d: repeat %t, changed %t, want repeat %t", c.Type(), c.Proposer, c.Number, res.Repeat, res.Changed, repeat)
	}
	if !repeat {
		w.refusal = res.Err
	} else if RefusalText(res.Err) != RefusalText(w.refusal) {
		w.rt.Fatalf("%s again: %v, before %v", c.Type(), res.Err, w.refusal)
	}
}

// checkState checks what holds in every state.
func (w *world) checkState(v View) {
	if v.SuspendMerge != w.suspend {
		w.rt.Fatalf("SUSPENDMERGE is %t and was set to %t", v.SuspendMerge, w.suspend)
	}
	for i, s := range v.Table.Servers {
		if !s.Status.Safe() {
			w.rt.Fatalf("server %d: %v", s.Number, s.Status)
		}
		if v.Members[i].Forget && s.Status != ring.ServiceOut|ring.Down {
			w.rt.Fatalf("server %d is to be forgotten and %v", s.Number, s.Status)
		}
	}
	w.checkNumbers(v)
	for _, s := range v.Slaves {
		if !s.Status.Safe() {
			w.rt.Fatalf("slave %v: %v", s.ID, s.Status)
		}
	}
	if (v.Merge == nil) != (v.Pending == nil) {
		w.rt.Fatalf("merge %+v with pending %v", v.Merge, v.Pending)
	}
	if v.Merge != nil && v.Merge.Phase != ring.MergeSealed {
		for _, x := range v.Merge.Transfers {
			if x.Final || v.Merge.Seal != 0 {
				w.rt.Fatalf("final without seal: %+v", v.Merge)
			}
		}
	}
	w.checkPartial(v)
	if v.Table.Base == nil {
		return
	}
	for slot := range v.Table.Base.Slots() {
		if v.Table.Base.InSync[slot] == 0 {
			w.rt.Fatalf("slot %d: nobody is in sync", slot)
		}
		for _, n := range v.Table.Base.Of(slot) {
			st := v.Table.Servers[v.Table.IndexOfNumber(n)].Status
			if st.Ring() != ring.ServiceIn || st.Action() == ring.Add {
				w.rt.Fatalf("slot %d is owned by a server that is %v", slot, st)
			}
		}
	}
}

// checkPartial checks that nobody acts for what is partial, and that it is given
// up only where that was asked for.
func (w *world) checkPartial(v View) {
	if v.Merge == nil || len(v.Merge.Partial) == 0 {
		return
	}
	if v.Merge.Phase == ring.MergeSealed && !v.Merge.Forced {
		w.rt.Fatalf("sealed while it is partial: %+v", v.Merge)
	}
	for _, x := range v.Merge.Partial {
		for hash := range uint64(testHashes) {
			if x.Slots.HasHash(hash) && v.Table.Acting(hash) >= 0 {
				w.rt.Fatalf("hash %d is partial and %d acts for it", hash, v.Table.Acting(hash))
			}
		}
	}
}

// checkNumbers checks that exactly the servers in service that are not being
// added have base numbers, and those that are not leaving pending numbers, 0, 1
// ... each; and that with PLACEMENT=chmpx the base numbers are the slots.
func (w *world) checkNumbers(v View) {
	var base, pending []int32
	var numbers []uint16
	for _, s := range v.Table.Servers {
		in := s.Status.Ring() == ring.ServiceIn
		if in && s.Status.Action() != ring.Add {
			base, numbers = append(base, s.BaseHash), append(numbers, s.Number)
		} else if s.BaseHash != -1 {
			w.rt.Fatalf("server %d has base number %d and is %v", s.Number, s.BaseHash, s.Status)
		}
		if in && s.Status.Action() != ring.Delete {
			pending = append(pending, s.PendingHash)
		} else if s.PendingHash != -1 {
			w.rt.Fatalf("server %d has pending number %d and is %v", s.Number, s.PendingHash, s.Status)
		}
	}
	for i, n := range base {
		if n != int32(i) {
			w.rt.Fatalf("base numbers are %v", base)
		}
	}
	for i, n := range pending {
		if n != int32(i) {
			w.rt.Fatalf("pending numbers are %v", pending)
		}
	}
	if b := v.Table.Base; v.Params.chmpx() && b != nil && !slices.Equal(b.Owners, ring.Modulo(b.Width, numbers).Owners) {
		w.rt.Fatalf("slots %v belong to %v", b.Owners, numbers)
	}
}

// routing is what an epoch names, written down in full.
func routing(v View) string {
	var b bytes.Buffer
	for _, s := range v.Table.Servers {
		fmt.Fprintln(&b, s.ID, s.Number, s.Incarnation, s.Addr, s.Status.Live(), s.Status.Suspended())
	}
	for hash := range uint64(testHashes) {
		fmt.Fprint(&b, v.Table.Acting(hash), " ")
	}
	if v.Table.Base != nil {
		fmt.Fprintln(&b, v.Table.Base.Owners, v.Table.Base.InSync)
	}
	return b.String()
}

// checkEpoch checks that the epoch never goes back and changes exactly when
// routing does, or with a commit.
func (w *world) checkEpoch(before, after View, body Body, res Result) {
	changed := after.Table.Epoch.Compare(before.Table.Epoch)
	if changed < 0 {
		w.rt.Fatalf("epoch %v after %v", after.Table.Epoch, before.Table.Epoch)
	}
	commit := body.Type() == CommandMergeCommit && res.Err == nil
	if want := commit || routing(before) != routing(after); want != (changed > 0) {
		w.rt.Fatalf("%s: epoch %v after %v, routing changed: %t", body.Type(), after.Table.Epoch, before.Table.Epoch, want)
	}
	if before.Table != after.Table && !after.Table.Newer(before.Table) {
		w.rt.Fatalf("%s: another table with the same names", body.Type())
	}
}

// checkOneOwner checks that no hash passes from a server that could go on to
// another one, except by a commit with a final transfer between them; and that
// a sealed merge keeps its donors.
func (w *world) checkOneOwner(before, after View, body Body) {
	final := func(hash uint64, donor, receiver ring.ID) bool {
		return body.Type() == CommandMergeCommit && slices.ContainsFunc(before.Merge.Transfers, func(x ring.Transfer) bool {
			return x.Final && x.Donor == donor && x.Receiver == receiver && x.Slots.HasHash(hash)
		})
	}
	for hash := range uint64(testHashes) {
		i, j := before.Table.Acting(hash), after.Table.Acting(hash)
		if i < 0 || !before.Params.DoMerge && body.Type() != CommandMergeCommit {
			continue // with DOMERGE off a server that comes back just takes over again
		}
		from := before.Table.Servers[i]
		still := after.Server(from.ID)
		if j < 0 && after.Table.Waits(hash) {
			continue // it has stopped for an owner that restarts, and goes on after that
		}
		if j >= 0 && after.Table.Servers[j].ID == from.ID {
			continue
		}
		if still.Incarnation != from.Incarnation || still.Status.Live() == ring.Down || still.Status.Suspended() {
			continue
		}
		if j < 0 || !final(hash, from.ID, after.Table.Servers[j].ID) {
			w.rt.Fatalf("%s: hash %d passes from %v to %d", body.Type(), hash, from.ID, j)
		}
	}
	if m := after.Merge; m != nil && operating(m) {
		for _, x := range m.Transfers {
			for hash := range uint64(testHashes) {
				if x.Slots.HasHash(hash) && after.Table.Acting(hash) != after.Table.Index(x.Donor) {
					w.rt.Fatalf("hash %d under transfer has left its donor %v", hash, x.Donor)
				}
			}
		}
	}
}

// moveData gives the receiver of a final transfer what its donor has, checks
// that whoever may answer for a hash has every write to it, and writes to every
// hash that is not sealed, as messages replicated to its owners do.
func (w *world) moveData(before, after View, body Body, res Result) {
	if !after.Params.DoMerge {
		return
	}
	if b, ok := body.(TransferFinal); ok && res.Err == nil {
		for _, x := range before.Merge.Transfers {
			for hash := range testHashes {
				if x.Donor == b.Donor && x.Receiver == b.Receiver && x.Slots.HasHash(uint64(hash)) {
					w.dataOf(b.Receiver)[hash] = w.dataOf(b.Donor)[hash]
				}
			}
		}
	}
	if m := before.Merge; body.Type() == CommandMergeCommit && res.Err == nil { // what was given up is lost
		for _, x := range m.Partial {
			for hash := range testHashes {
				if x.Slots.HasHash(uint64(hash)) {
					w.dataOf(x.Receiver)[hash] = w.writes[hash]
				}
			}
		}
	}
	for hash := range testHashes {
		owners := after.Table.Owners(uint64(hash), nil)
		if len(owners) == 0 && after.Table.Acting(uint64(hash)) >= 0 || len(owners) > 0 && owners[0] != after.Table.Acting(uint64(hash)) {
			w.rt.Fatalf("hash %d: owners %v, acting is %d", hash, owners, after.Table.Acting(uint64(hash)))
		}
		for _, i := range owners {
			id := after.Table.Servers[i].ID
			if d := w.dataOf(id); d[hash] != w.writes[hash] {
				w.rt.Fatalf("%s: server %v is in sync for hash %d and has %d of its %d writes", body.Type(), id, hash, d[hash], w.writes[hash])
			}
		}
		if m := after.Merge; len(owners) == 0 || m != nil && m.Phase == ring.MergeSealed &&
			slices.ContainsFunc(m.Transfers, func(x ring.Transfer) bool { return x.Slots.HasHash(uint64(hash)) }) {
			continue
		}
		w.writes[hash]++
		for _, i := range owners {
			w.dataOf(after.Table.Servers[i].ID)[hash] = w.writes[hash]
		}
	}
}

func (w *world) dataOf(id ring.ID) *[testHashes]int {
	if w.data[id] == nil {
		w.data[id] = new([testHashes]int)
	}
	return w.data[id]
}

// newWorld is a ring with some servers in service.
func newWorld(t *rapid.T) *world {
	p := drawParams(t)
	w := &world{rig: ringOf(t, p, rapid.IntRange(0, modelServers).Draw(t, "in service")), rt: t, replica: New(), data: make(map[ring.ID]*[testHashes]int)}
	if err := w.replica.Restore(w.s.Snapshot()); err != nil {
		t.Fatalf("restore: %v", err)
	}
	return w
}

// TestRandomHistories proves the invariants of checkState, checkEpoch,
// checkOneOwner and moveData for any sequence of commands, and that two replicas stay equal
// byte for byte, one of them restored from snapshots on the way.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(5, 200).Draw(t, "steps") {
			w.step(w.draw())
		}
	})
}

// TestRingSettles proves that from any reachable state, once all servers are
// up with programs, NextMergeStep comes to an end within bounded steps and
// leaves a ring in which nobody joins, leaves or lacks data.
func TestRingSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.s.params.AutoMerge = true
		w.replica.params.AutoMerge = true
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.step(w.draw())
		}
		w.apply(SuspendMerge{})
		for n := range modelServers {
			if w.s.View().Member(id(n)).Forget { // as the leader does
				w.do(ServerForgotten{ID: id(n)})
			}
			if s := w.s.View().Server(id(n)); s == nil || s.Status.Live() == ring.Down || rapid.Bool().Draw(t, "restart") {
				w.do(w.serverUp(n, true))
			}
			w.attach(n)
		}
		if m := w.s.View().Merge; operating(m) && m.Phase == ring.MergeSealed && rapid.Bool().Draw(t, "unseal") {
			w.do(MergeUnseal{MergeID: m.ID})
		}
		w.nowUs += SealTimeoutUs
		w.apply(ServiceIn{ID: id(0)}) // a command: it ends the hold of ABORTMERGE
		w.do(ServerUp{ID: id(9), Server: ring.Identity{Name: "s9"}, Addr: "h:1", Boot: 9, Suspend: true})
		w.settle()
		w.checkSettled()
	})
}

func (w *world) checkSettled() {
	v := w.s.View()
	remains := false
	for _, s := range v.Table.Servers {
		remains = remains || s.Status.Ring() == ring.ServiceIn && s.Status.Action() != ring.Delete
	}
	if v.Merge != nil || !remains {
		if v.Merge != nil {
			w.rt.Fatalf("merge goes on: %+v", v.Merge)
		}
		return // the last servers in service are leaving: they cannot
	}
	for _, s := range v.Table.Servers {
		if s.Status.Action() != ring.NoAct || s.Status.Operate() != ring.Nothing {
			w.rt.Fatalf("server %d is %v (%v)", s.Number, s.Status, MergeBlocked(v))
		}
	}
	for hash := range uint64(testHashes) {
		if v.Table.Acting(hash) < 0 {
			w.rt.Fatalf("nobody acts for hash %d", hash)
		}
	}
}
