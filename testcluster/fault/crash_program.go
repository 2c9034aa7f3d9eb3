package fault

import (
	"context"
	"slices"
	"time"

	inside "github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/testcluster/rig"
)

// CrashProgram lets a program kill itself at a marked point of the library. It
// is started anew for that.
type CrashProgram struct{}

// Info implements Fault.
func (CrashProgram) Info() Info {
	return Info{Name: "crash-program", About: "a program, started again, kills itself at a marked point of the library", Hits: "one program",
		Undone: "it is started again"}
}

// passed says which points only one sort of program passes.
var (
	receiverOnly = []inside.Point{inside.ReplyReserved, inside.ReplyCommitted, inside.ReplyPublished,
		inside.ReceiveCopied, inside.ReceiveReleased, inside.DoneNoted, inside.DoneReleased}
	senderOnly = []inside.Point{inside.SendReserved, inside.SendCommitted, inside.SendPublished}
)

// Draw implements Fault.
func (CrashProgram) Draw(d Dice) Event {
	e := Event{For: d.between(2*time.Second, 6*time.Second), Targets: []string{d.program()}}
	not := senderOnly
	if slices.Contains(d.Senders, e.Targets[0]) {
		not = receiverOnly
	}
	e.Detail = d.drawPoint(func(p inside.PointInfo) bool { return p.Program && !slices.Contains(not, p.Point) })
	return e
}

// Begin implements Fault.
func (CrashProgram) Begin(_ context.Context, r *rig.Rig, e Event) (*Ongoing, error) {
	p, release, err := claimProgram(r, e.Targets[0])
	if err != nil {
		return nil, err
	}
	p.Kill()
	if err := p.Start(e.Detail); err != nil {
		release()
		return nil, err
	}
	return &Ongoing{Targets: e.Targets, Detail: e.Detail, Early: p.Proc().Ended(), End: func(context.Context) error {
		defer release()
		p.Kill()
		return p.Start("")
	}}, nil
}
