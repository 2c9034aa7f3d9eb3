package dataplane

import (
	"fmt"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/shm"
	"github.com/chmpx/chmpx/wire"
)

// Here is all that touches the memory of a program (and transmit and deliver in
// ports.go). A page that cannot be had is an error of that attachment: each
// function guards itself, for about 7 ns, because the core between them must
// not be left half way. p.mu is held.

// openRings makes the ends of the rings that the node has.
func (a *attachment) openRings() (err error) {
	defer shm.Catch(shm.Arm(), &err)
	a.fromReq, a.toReq = a.seg.Consumer(shm.ToNode, shm.Request), a.seg.Producer(shm.ToProgram, shm.Request)
	a.fromRep, a.toRep = a.seg.Consumer(shm.ToNode, shm.Reply), a.seg.Producer(shm.ToProgram, shm.Reply)
	a.fromCtl, a.toCtl = a.seg.Consumer(shm.ToNode, shm.Control), a.seg.Producer(shm.ToProgram, shm.Control)
	a.head = a.toReq.Head()
	return nil
}

// drainControl says that the node is awake, and reads what the program tells: a
// program says goodbye by closing its socket, and nothing else is defined yet.
func (a *attachment) drainControl() (err error) {
	if a.broken {
		return nil
	}
	defer shm.Catch(shm.Arm(), &err)
	a.seg.Awake(shm.NodeSide)
	for {
		_, _, end, ok, err := a.fromCtl.Next()
		if !ok || err != nil {
			return err
		}
		a.fromCtl.Release(end)
	}
}

// awake says that the node does not sleep: rings are not needed.
func (a *attachment) awake() {
	if a.broken {
		return
	}
	var err error // who reads hears of it
	defer shm.Catch(shm.Arm(), &err)
	a.seg.Awake(shm.NodeSide)
}

// sleep announces that the pump waits for the doorbell, and looks once more: a
// record published in between would otherwise ring nobody. It reports whether
// there is one.
func (a *attachment) sleep() (again bool, err error) {
	if a.broken {
		return false, nil
	}
	defer shm.Catch(shm.Arm(), &err)
	a.seg.Sleep(shm.NodeSide)
	if again = a.more(); again {
		a.seg.Awake(shm.NodeSide)
	}
	return again, nil
}

// more reports whether a ring holds something that can be read now. A fault is
// nothing; who reads hears of it.
func (a *attachment) more() (is bool) {
	var err error
	defer shm.Catch(shm.Arm(), &err)
	return !a.ended && !a.fromCtl.Empty() || !a.stalled[flow.Replies] && !a.fromRep.Empty() ||
		!a.stalled[flow.Requests] && !a.fromReq.Empty()
}

// repliesRead reports whether every reply that the program wrote is submitted.
func (a *attachment) repliesRead() (is bool) {
	var err error
	defer shm.Catch(shm.Arm(), &err)
	return !a.stalled[flow.Replies] && a.fromRep.Empty()
}

// nextRequest reads the next message that the program sends.
func (a *attachment) nextRequest(q *wire.OutRequest) (size int, pos, end uint64, ok bool, err error) {
	defer shm.Catch(shm.Arm(), &err)
	rec, pos, end, ok, err := a.fromReq.Next()
	if !ok || err != nil {
		return 0, 0, 0, false, err
	}
	body, err := q.Get(rec)
	if err == nil {
		err = a.carries(body)
	}
	return len(body), pos, end, true, err
}

// nextReply reads the next reply that the program sends.
func (a *attachment) nextReply(q *wire.OutReply) (size int, pos, end uint64, ok bool, err error) {
	defer shm.Catch(shm.Arm(), &err)
	rec, pos, end, ok, err := a.fromRep.Next()
	if !ok || err != nil {
		return 0, 0, 0, false, err
	}
	body, err := q.Get(rec)
	if err == nil {
		err = a.carries(body)
	}
	return len(body), pos, end, true, err
}

// giveUp marks a message in the out-ring as given up, so that a later process
// that reads the ring again does not send it.
func (a *attachment) giveUp(r *flow.Record, maybe bool) (err error) {
	if a.mem == nil || a.broken { // then nobody is told either
		return nil
	}
	defer shm.Catch(shm.Arm(), &err)
	rec, err := a.fromReq.At(r.Position)
	if err != nil {
		return err
	}
	var q wire.OutRequest
	if _, err := q.Get(rec); err != nil {
		return err
	}
	q.GiveUp(maybe)
	q.Put(rec)
	fault.Crash(fault.NodeGivenUp)
	return nil
}

// errTooLarge says that a program ignored the limit that its library keeps.
var errTooLarge = fmt.Errorf("%w: payload too large", shm.ErrCorrupt)

// carries reports whether frames, and rings as large as the program's, can hold a payload.
func (a *attachment) carries(payload []byte) error {
	if most := wire.MessageBytesMax(a.seg.RingBytes()); len(payload) > most {
		return fmt.Errorf("%w: %d bytes, at most %d allowed", errTooLarge, len(payload), most)
	}
	return nil
}

// taken returns the head of the request in-ring, on an error the last good one.
func (a *attachment) taken() (head uint64, err error) {
	head = a.head
	defer shm.Catch(shm.Arm(), &err)
	head = a.toReq.Head()
	return head, a.toReq.Err()
}

// writeControl writes one control record if there is room, else the program
// rings when there is.
func (a *attachment) writeControl(c wire.Control) (ok bool, err error) {
	defer shm.Catch(shm.Arm(), &err)
	rec, ok, err := a.toCtl.Reserve(wire.ControlBytes)
	if err != nil {
		return false, err
	}
	if !ok {
		a.seg.WantRoom(shm.NodeSide)
		return false, nil
	}
	c.Put(rec)
	a.toCtl.Commit()
	return true, nil
}

// wantRoom makes the program ring when it takes something.
func (a *attachment) wantRoom() {
	var err error // who looks at what it took hears of it
	defer shm.Catch(shm.Arm(), &err)
	a.seg.WantRoom(shm.NodeSide)
}

// publish makes what was written visible, then gives back the room of what is
// settled, and reports whether the program must be woken. A program whose node
// ends can so tell by its head what became of a message: the control record
// about it was there before.
func (a *attachment) publish() (wake bool, err error) {
	a.dirty = false
	if a.mem == nil || a.broken {
		return false, nil
	}
	defer shm.Catch(shm.Arm(), &err)
	if a.wrote {
		a.wrote = false
		a.toCtl.Publish()
		fault.Crash(fault.NodeControlPublished)
		if !a.ended { // what was not taken is withdrawn
			a.toRep.Publish()
			a.toReq.Publish()
		}
		wake = a.seg.WakeNeeded(shm.ProgramSide)
		fault.Crash(fault.NodePublished)
	}
	if a.released && len(a.owed) == 0 && !a.deaf {
		a.released = false
		a.fromReq.Release(a.settled[flow.Requests])
		a.fromRep.Release(a.settled[flow.Replies])
		wake = a.seg.RoomWanted(shm.ProgramSide) || wake
		fault.Crash(fault.NodeReleased)
	}
	return wake && !a.ended, nil
}
