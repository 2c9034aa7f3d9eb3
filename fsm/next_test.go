package fsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// nextCase is one situation of the leader.
type nextCase struct {
	name    string
	params  Params
	servers int // in service before the events
	events  func(r *rig)
	waitUs  int64 // the leader asks so long after them
}

func nextCases() []nextCase {
	manual := testParams()
	manual.AutoMerge = false
	single := testParams()
	single.Replica = 0
	joining := func(r *rig) {
		r.up(2)
		r.attach(2)
		r.do(ServiceIn{ID: id(2)})
	}
	sealed := func(r *rig) {
		joining(r)
		m := r.mergeTo()
		r.ready()
		r.do(MergeSeal{MergeID: m.ID})
	}
	return []nextCase{
		{"empty ring", testParams(), 0, func(r *rig) {}, 0},
		{"first server without program", testParams(), 0, func(r *rig) { r.up(0) }, 0},
		{"first server with program", testParams(), 0, func(r *rig) { r.up(0); r.attach(0) }, 0},
		{"first server with program, manual", manual, 0, func(r *rig) { r.up(0); r.attach(0) }, 0},
		{"first server with program, SUSPENDMERGE", testParams(), 0, func(r *rig) { r.up(0); r.attach(0); r.do(SuspendMerge{On: true}) }, 0},
		{"settled ring", testParams(), 2, func(r *rig) {}, 0},
		{"server being added", testParams(), 2, joining, 0},
		{"server being added lost its program", testParams(), 2, func(r *rig) { joining(r); r.detach(2) }, 0},
		{"two new servers: both before a plan", testParams(), 1, func(r *rig) { r.up(1); r.attach(1); r.up(2); r.attach(2); r.do(ServiceIn{ID: id(1)}) }, 0},
		{"server leaving", testParams(), 2, func(r *rig) { r.do(ServiceOut{ID: id(0)}) }, 0},
		{"server was taken out", testParams(), 2, func(r *rig) { r.do(ServiceOut{ID: id(0)}); r.settle() }, 0},
		{"server was taken out and restarted", testParams(), 2, func(r *rig) { r.do(ServiceOut{ID: id(0)}); r.settle(); r.up(0); r.attach(0) }, 0},
		{"dead server leaving, replica has the data", testParams(), 2, func(r *rig) { r.kill(0); r.do(ServiceOut{ID: id(0)}) }, 0},
		{"dead server leaving, nobody has the data", single, 2, func(r *rig) { r.kill(0); r.do(ServiceOut{ID: id(0)}) }, 0},
		{"dead server", testParams(), 2, func(r *rig) { r.kill(0) }, 0},
		{"server came back without its data", testParams(), 2, func(r *rig) { r.kill(0); r.up(0) }, 0},
		{"server came back without its data, donor dead", testParams(), 2, func(r *rig) { r.kill(0); r.up(0); r.kill(1) }, 0},
		{"planned", testParams(), 2, func(r *rig) { joining(r); c, _ := PlanMerge(r.s.View()); r.do(c.Body) }, 0},
		{"planned, then a server died", testParams(), 2, func(r *rig) { joining(r); c, _ := PlanMerge(r.s.View()); r.do(c.Body); r.kill(1) }, 0},
		{"copying", testParams(), 2, func(r *rig) { joining(r); r.mergeTo() }, 0},
		{"all ready", testParams(), 2, func(r *rig) { joining(r); r.mergeTo(); r.ready() }, 0},
		{"all ready, SUSPENDMERGE", testParams(), 2, func(r *rig) { joining(r); r.mergeTo(); r.ready(); r.do(SuspendMerge{On: true}) }, 0},
		{"all ready, NOSUSPENDMERGE", testParams(), 2, func(r *rig) {
			joining(r)
			r.mergeTo()
			r.ready()
			r.do(SuspendMerge{On: true})
			r.do(SuspendMerge{})
		}, 0},
		{"sealed", testParams(), 2, sealed, 0},
		{"sealed for too long", testParams(), 2, sealed, SealTimeoutUs},
		{"unsealed a moment ago", testParams(), 2, func(r *rig) { sealed(r); r.do(MergeUnseal{MergeID: r.s.View().Merge.ID}) }, 0},
		{"unsealed a while ago", testParams(), 2, func(r *rig) { sealed(r); r.do(MergeUnseal{MergeID: r.s.View().Merge.ID}) }, SealTimeoutUs},
		{"all final", testParams(), 2, func(r *rig) { sealed(r); r.final() }, 0},
		{"all final, manual", manual, 2, func(r *rig) { sealed(r); r.final() }, 0},
		{"all final, SUSPENDMERGE", testParams(), 2, func(r *rig) { sealed(r); r.final(); r.do(SuspendMerge{On: true}) }, 0},
		{"aborted by an operator", testParams(), 2, func(r *rig) { joining(r); r.mergeTo(); r.do(MergeAbort{Operator: true}) }, 0},
		{"aborted by the driver", testParams(), 2, func(r *rig) { joining(r); m := r.mergeTo(); r.do(MergeAbort{MergeID: m.ID}) }, 0},
	}
}

// TestNextMergeStep proves, case by case, what the leader proposes next. The
// answers are in testdata/next.golden; -update writes them.
func TestNextMergeStep(t *testing.T) {
	var got bytes.Buffer
	for _, tt := range nextCases() {
		r := ringOf(t, tt.params, tt.servers)
		tt.events(r)
		c, ok := NextMergeStep(r.s.View(), r.nowUs+tt.waitUs)
		answer := "nothing"
		if ok {
			if p, plan := c.Body.(PendingTable); plan {
				c.Body = PendingTable{Base: p.Base} // the planner's choice is tested with the planner
			}
			b, err := json.Marshal(c.Body)
			if err != nil {
				t.Fatal(err)
			}
			answer = fmt.Sprintf("%s %s", c.Type(), b)
		}
		fmt.Fprintf(&got, "%s: %s", tt.name, answer)
		if err := MergeBlocked(r.s.View()); err != nil {
			fmt.Fprintf(&got, " (%v)", err)
		}
		got.WriteByte('\n')
	}
	checkGolden(t, "next.golden", got.Bytes())
}

// TestNextMergeStepBeforeTheRing proves that nothing is proposed to no ring.
func TestNextMergeStepBeforeTheRing(t *testing.T) {
	if c, ok := NextMergeStep(New().View(), 0); ok {
		t.Fatalf("proposed %s", c.Type())
	}
	if MergeBlocked(New().View()) != nil || New().View().Server(ring.ID(1)) != nil || New().View().Boot(1) != 0 {
		t.Fatal("a view before the ring shows something")
	}
}
