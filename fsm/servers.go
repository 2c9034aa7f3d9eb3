package fsm

import (
	"fmt"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
)

// serverUp applies ServerUp.
func (s *State) serverUp(e *entry, b ServerUp) error {
	if b.ID == 0 || b.Boot == 0 || b.Server.Name == "" {
		return fmt.Errorf("%w: id, boot or name is empty", ErrInvalid)
	}
	if err := s.View().Admits(b.ID, b.Levels); err != nil {
		return err
	}
	v := s.find(b.ID)
	if v != nil && v.Status.Live() == ring.Up && v.Boot == b.Boot {
		e.res.Incarnation = v.Incarnation
		return nil
	}
	if v != nil && v.Forget {
		return fmt.Errorf("%w: %s is being forgotten", ErrStatusNotAllowed, s.called(b.ID))
	}
	if v == nil {
		if s.nextNumber == ring.NoServer {
			return fmt.Errorf("%w: every server number was given", ErrTooMany)
		}
		s.servers = append(s.servers, server{Server: ring.Server{
			ID: b.ID, Number: s.nextNumber, Status: ring.ServiceOut | ring.Down,
		}})
		s.nextNumber++
		v = s.find(b.ID)
	}
	s.down(e, v) // the start before this one has ended, whether or not somebody saw it
	if v.Boot != b.Boot {
		s.forgetProposer(v.Boot)
	}
	v.Identity, v.Addr, v.Boot = b.Server, b.Addr, b.Boot
	v.Levels = b.Levels.Brief()
	if v.Incarnation == 0 || !fault.Bug(fault.ReuseIncarnation) {
		v.Incarnation = ring.Incarnation(e.index)
	}
	// Who is leaving because an operator wants it so does not come back by
	// being restarted on the way; who was only away for too long does.
	leaving := v.Status.Action() == ring.Delete
	v.Startup = !leaving || v.AutoOut
	if leaving && v.AutoOut && !operating(s.merge) {
		v.Status = v.Status.WithAction(ring.NoAct).WithOperate(ring.Nothing)
	}
	// A program outlives its node and is back within moments: a server in
	// service goes on as it was until its node reports that nobody came back.
	if v.Status.Ring() != ring.ServiceIn {
		v.HasProgram = !b.Suspend
	}
	v.Status = v.Status.WithLive(ring.Up).WithSuspend(v.suspend())
	v.HoldUs = 0
	s.sortServers()
	s.held = false
	s.suspendOn = s.suspendOn && !fault.Bug(fault.ForgetSuspend)
	e.changed, e.res.Incarnation = true, v.Incarnation
	return nil
}

// nodeDown applies NodeDown.
func (s *State) nodeDown(e *entry, b NodeDown) error {
	v, err := s.present(b.ID, b.Incarnation)
	if err != nil {
		return err
	}
	s.down(e, v)
	s.held = false
	e.changed = true
	return nil
}

// down does what the end of a server process does; nothing if it is DOWN.
func (s *State) down(e *entry, v *server) {
	if v.Status.Live() == ring.Down {
		return
	}
	if s.involved(v) {
		s.endMerge(e, false)
	}
	st := v.Status.WithLive(ring.Down).WithSuspend(ring.NoSuspend)
	switch st.Action() {
	case ring.Add:
		st = st.WithRing(ring.ServiceOut).WithAction(ring.NoAct).WithOperate(ring.Nothing)
	case ring.NoAct:
		st = st.WithOperate(ring.Nothing)
	}
	v.Status = st // DELETE is Pending here: a running merge that it was part of has ended
}

// present returns the server if this is its incarnation and it is UP.
func (s *State) present(id ring.ID, inc ring.Incarnation) (*server, error) {
	v := s.find(id)
	if v == nil {
		return nil, fmt.Errorf("%w: server %v", ErrUnknownNode, id)
	}
	if v.Incarnation != inc || v.Status.Live() != ring.Up {
		return nil, fmt.Errorf("%w: server %v incarnation %d", ErrStale, id, inc)
	}
	return v, nil
}

// suspend returns the suspend bit that belongs to an UP server.
func (v *server) suspend() ring.Status {
	if v.HasProgram {
		return ring.NoSuspend
	}
	return ring.Suspend
}

// programsChanged applies ProgramsChanged.
func (s *State) programsChanged(e *entry, b ProgramsChanged) error {
	v, err := s.present(b.ID, b.Incarnation)
	if err != nil {
		return err
	}
	if b.Count < 0 {
		return fmt.Errorf("%w: %d programs", ErrInvalid, b.Count)
	}
	has := b.Count > 0
	if has == v.HasProgram {
		return nil
	}
	if !has && s.involved(v) {
		s.endMerge(e, false)
	}
	v.HasProgram = has
	v.Status = v.Status.WithSuspend(v.suspend())
	s.held = false
	s.dropPlan()
	e.changed = true
	return nil
}
