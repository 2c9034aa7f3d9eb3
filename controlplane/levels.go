package controlplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// A node that does not understand an entry of the log has to stop. So nothing is
// put there that a member does not understand, and nobody becomes a member who
// does not understand what is there. Both are checked by the leader with what the
// log and raft's configuration say, so that it makes no difference who leads.

// orderTimeout bounds the wait for one's turn: who asked has given up then, and must
// not become a member of raft in its absence.
const orderTimeout = 3 * time.Second

// LevelError says that a command was not proposed, because members of the ring
// do not understand it. It is fsm.ErrLevel.
type LevelError struct {
	Command string
	Needs   int      // level of the command
	Has     int      // level of the ring
	Lack    []string // the members that do not speak it
}

// Error names the members and says what to do.
func (e *LevelError) Error() string {
	return fmt.Sprintf("%v: %s needs level %d and the ring has %d; upgrade and start again, or forget (chmpxctl node forget) what is gone for good: %s",
		fsm.ErrLevel, e.Command, e.Needs, e.Has, fsm.NamesOf(e.Lack))
}

// Unwrap implements errors.Is(err, fsm.ErrLevel).
func (e *LevelError) Unwrap() error { return fsm.ErrLevel }

// mayApply returns an error (fsm.ErrLevel) for a command that not every member
// understands, or that makes a member of a node which cannot be one.
func (p *Plane) mayApply(c fsm.Command) error {
	if p.dependsOnLevels(c) && !p.upToDate() {
		return errJustElected
	}
	v := p.view()
	switch b := c.Body.(type) {
	case fsm.ServerUp:
		return v.Admits(b.ID, b.Levels)
	case fsm.SlaveUp:
		return v.Admits(b.ID, b.Levels)
	}
	needs := p.cfg.Build.LevelOf(c.Type())
	if needs <= 1 {
		return nil
	}
	e := &LevelError{Command: c.Type().String(), Needs: needs, Has: v.Level()}
	for _, l := range v.Below(needs) {
		e.Lack = append(e.Lack, l.String())
	}
	for _, name := range p.unknownMembers(v, p.clusterOf()) {
		e.Has = 1
		e.Lack = append(e.Lack, name+notUpYet)
	}
	if len(e.Lack) == 0 && e.Has >= needs {
		return nil
	}
	return e
}

// notUpYet is said of who is a member of raft and has not come up.
const notUpYet = " (not up yet)"

// unknownMembers names the members of raft that get the log and have not come up
// as what they are now, so that nobody knows what they understand. A server that lost
// its disk is a member twice until its new start has come up.
func (p *Plane) unknownMembers(v fsm.View, cluster []raft.Server) (out []string) {
	ids := make(map[ring.ID]int) // how many each server has
	for _, m := range cluster {
		id, _ := ownerOf(m.ID)
		ids[id]++
		slave := slices.ContainsFunc(v.Slaves, func(s fsm.Slave) bool { return s.ID == id })
		switch {
		case isSlaveID(m.ID) && !slave:
			out = append(out, fmt.Sprintf("slave %s", id))
		case !isSlaveID(m.ID) && v.Server(id) == nil && ids[id] == 1, ids[id] == 2:
			out = append(out, p.nameOf(v, id))
		}
	}
	return slices.Compact(out)
}

// inOrder takes the token under which what depends on the levels of the ring goes
// to raft one after the other: a command that an older build would not understand, and a
// node that would not understand all that this one may propose. The token is given
// back when raft has decided. Nothing else waits.
func (p *Plane) inOrder(ctx context.Context, wanted bool) (release func(), err error) {
	if !wanted {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	select {
	case p.levelling <- struct{}{}:
		return func() { <-p.levelling }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for who comes up, or for a command that not every build understands: %w", ctx.Err())
	}
}

// dependsOnLevels reports whether a command is to be proposed in order.
func (p *Plane) dependsOnLevels(c fsm.Command) bool {
	switch b := c.Body.(type) {
	case fsm.ServerUp:
		return p.older(b.Levels)
	case fsm.SlaveUp:
		return p.older(b.Levels)
	}
	return p.cfg.Build.LevelOf(c.Type()) > 1
}

// older reports whether a node does not understand all that this one may propose.
func (p *Plane) older(l fsm.Levels) bool { return l.Said().Max < p.cfg.Build.Speaks().Max }

// releasing is a future of raft that gives something back when it is decided.
type releasing struct {
	raft.Future
	release func()
}

// Error implements raft.Future; it is called once.
func (f releasing) Error() error {
	defer f.release()
	return f.Future.Error()
}

// understood returns an error (ErrRefused) for a command that this node does not
// know, or does not know the whole of: then it must not lead it into the log.
func (p *Plane) understood(c fsm.Command, err error) error {
	level := p.cfg.Build.Speaks().Max
	if err == nil && p.cfg.Build.LevelOf(c.Type()) > level {
		err = fmt.Errorf("%w: %s", fsm.ErrUnknownCommand, c.Type())
	}
	switch {
	case errors.Is(err, fsm.ErrUnknownCommand):
		return fmt.Errorf("%w: %w: %s:%d leads the ring, speaks up to level %d, and does not know it (%w); upgrade and start it again",
			ErrRefused, fsm.ErrLevel, p.cfg.Self.Name, p.cfg.Self.CtlPort, level, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// levelTooLow returns why this node cannot follow the log of a ring that needs a
// level, "" if it can.
func (p *Plane) levelTooLow(needed int) string {
	if level := p.cfg.Build.Speaks().Max; needed > level {
		return fmt.Sprintf("this node speaks up to feature level %d and its ring needs %d: upgrade this node; its data directory is fine", level, needed)
	}
	return ""
}

// levelStatus puts into a status what the level of the ring is, and who holds it
// back if they differ. unknown are its unknownMembers.
func (st *Status) levelStatus(v fsm.View, unknown []string) {
	if v.RingID == 0 {
		return
	}
	var names []string
	st.Level = v.Level()
	for _, l := range v.HoldsBack() {
		st.LevelHeldBy, names = append(st.LevelHeldBy, l.Name), append(names, l.String())
	}
	do := "upgrade them as well"
	if st.Level > 1 && len(unknown) > 0 { // nobody holds it back as much as they do
		st.Level, st.LevelHeldBy, names = 1, unknown, nil
		for _, name := range unknown {
			names = append(names, name+notUpYet)
		}
		do = "start them"
	}
	if len(names) > 0 {
		st.Warnings = append(st.Warnings, fmt.Sprintf("the ring has feature level %d, because of %s: %s", st.Level, fsm.NamesOf(names), do))
	}
}
