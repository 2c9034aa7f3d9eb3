package fault

import (
	"context"
	"fmt"
	"time"

	inside "github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// CrashNode lets a node kill itself at a marked point of its code. It is started
// anew for that.
type CrashNode struct{}

// Info implements Fault.
func (CrashNode) Info() Info {
	return Info{Name: "crash-node", About: "a node, started again, kills itself at a marked point", Hits: "one server or slave", Undone: "the node is started again"}
}

// crashMost bounds how often a point is passed before it kills. Most points are
// passed for each message or each start; what comes first decides.
const crashMost = 300

// drawPoint returns a crash point and how often it is passed.
func (d Dice) drawPoint(fits func(inside.PointInfo) bool) string {
	var points []inside.PointInfo
	for _, p := range inside.Points() {
		if fits(p) {
			points = append(points, p)
		}
	}
	times := 1
	if d.IntN(2) == 0 {
		times += d.IntN(crashMost)
	}
	return fmt.Sprintf("%s:%d", points[d.IntN(len(points))].Point, times)
}

// Draw implements Fault.
func (CrashNode) Draw(d Dice) Event {
	return Event{For: d.between(2*time.Second, 6*time.Second), Targets: []string{d.host()},
		Detail: d.drawPoint(func(p inside.PointInfo) bool { return p.Node })}
}

// Begin implements Fault.
func (CrashNode) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	h, release, err := claimNode(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	h.Kill()
	if err := h.Start(e.Detail); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, Detail: e.Detail, Early: h.Node.Proc().Ended(), End: func(context.Context) error {
		defer release()
		h.Kill()
		return h.Start("")
	}}, nil
}
