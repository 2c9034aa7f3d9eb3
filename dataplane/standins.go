package dataplane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/dataplane/flow"
	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// StandInMin is the least StandInAfter that makes sense: a relay must have been
// looked for, and a process that ended be declared DOWN.
const StandInMin = time.Second

// standInsMax bounds what is noted and not known to the ring yet. It is reached by
// servers that come and go without a majority.
const standInsMax = 256

// standIns are the notes of a server about those that it stands in for, or has.
// The file is written by its keeper; guarded by Plane.mu but for what is fixed.
type standIns struct {
	path string
	wake chan struct{} // capacity 1

	notes  []ring.StandIn           // as they are to be on disk, oldest first
	asked  []askedNote              // being written
	active map[ring.ID]ring.StandIn // whom this server stands in for
	review bool                     // programs may be displaced
	failed error                    // why no note could be written last time; nil: it could
}

// askedNote is a note that the core waits for.
type askedNote struct {
	peer   *flow.Peer
	note   ring.StandIn
	before []ring.StandIn // what it replaces, which stays if nothing comes of it
	err    error          // it is not even tried
}

// notesAgain is how soon notes are written again that could not be.
const notesAgain = time.Second

// errManyNotes says that notes wait for the ring, which has no majority.
var errManyNotes = fmt.Errorf("%d notes of stand-ins wait for the ring", standInsMax)

// loadStandIns reads the notes. A damaged file is an error: what it says may be why
// another server must not go on with what it has.
func loadStandIns(dir string) (standIns, error) {
	s := standIns{path: filepath.Join(dir, "standins"), wake: make(chan struct{}, 1), active: map[ring.ID]ring.StandIn{}}
	b, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s.notes)
	}
	if err != nil {
		return s, fmt.Errorf("read notes of stand-ins %s (without it the ring does not learn that other servers lack what this one took; to start all the same, move the file away): %w", s.path, err)
	}
	return s, nil
}

// setStandIn tells the core after what time servers stand in for each other by a
// table; mu is held.
func (p *Plane) setStandIn(t *ring.Table) {
	after := p.cfg.StandInAfter
	if p.cfg.StandInNoMerge && (t == nil || !t.NoMerge) {
		after = 0
	}
	p.core.SetStandIn(int64(after))
}

// StandIns returns the notes of this server about those that it stands in for, or
// has, and that ForgetStandIn was not called for. Any goroutine.
func (p *Plane) StandIns() []ring.StandIn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.standIns.notes)
}

// CollectStandIns is StandIns, and sees to it that what is not among them does
// not begin before some time has passed.
func (p *Plane) CollectStandIns(hold time.Duration) []ring.StandIn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.core.NoStandInBefore(p.nowNs() + int64(hold))
	return slices.Clone(p.standIns.notes)
}

// ForgetStandIn deletes a note that the ring knows of. Any goroutine.
func (p *Plane) ForgetStandIn(n ring.StandIn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.standIns
	s.notes = slices.DeleteFunc(s.notes, func(o ring.StandIn) bool { return o == n })
	s.changed()
}

// changed wakes the keeper.
func (s *standIns) changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// keepStandIns writes the notes whenever they change, and until it can, until ctx ends.
func (p *Plane) keepStandIns(ctx context.Context) {
	b := &batch{}
	again := time.NewTimer(0)
	defer again.Stop()
	again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.standIns.wake:
		case <-again.C:
		}
		if !p.writeStandIns(b) {
			again.Reset(notesAgain)
		}
	}
}

// writeStandIns writes the notes, and tells the core of those that it waits for.
// It returns false if that is to be tried again soon.
func (p *Plane) writeStandIns(b *batch) bool {
	s := &p.standIns
	p.mu.Lock()
	notes, asked := slices.Clone(s.notes), s.asked
	s.asked = nil
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return true
	}
	err := writeNotes(s.path, notes)
	p.mu.Lock()
	failed := err
	for _, a := range asked {
		failed = cmp.Or(failed, a.err)
		p.standInNoted(a, cmp.Or(a.err, err))
	}
	if failed == nil && errors.Is(s.failed, errManyNotes) && len(s.notes) >= standInsMax {
		failed = s.failed // nobody has tried since
	}
	p.notesFail(failed)
	p.finishUnlock(b)
	return err == nil
}

// notesFail notes whether notes cannot be written, and logs when that begins and
// when it ends; mu is held.
func (p *Plane) notesFail(err error) {
	switch was := p.standIns.failed; {
	case err != nil && was == nil:
		p.note(slog.LevelError, "cannot stand in for servers: a note of it would not be on disk", "error", err)
	case err == nil && was != nil:
		p.note(slog.LevelInfo, "notes of stand-ins are written again")
	}
	p.standIns.failed = err
}

// standInNoted begins to stand in for a server, unless its note is not on disk; mu is held.
func (p *Plane) standInNoted(a askedNote, err error) {
	s := &p.standIns
	p.core.StandInNoted(p.nowNs(), a.peer, a.note.Incarnation, err == nil)
	if err != nil || !p.core.StandsIn(a.peer) {
		s.drop(a)
		return
	}
	s.active[a.note.For] = a.note
	if fault.Bug(fault.LoseStandIn) {
		s.notes = slices.DeleteFunc(s.notes, func(n ring.StandIn) bool { return n == a.note })
	}
	p.trace(fault.Event{What: fault.StandIn, Peer: uint64(a.note.For), Hash: uint64(a.note.Incarnation)})
	p.note(slog.LevelWarn, "this server stands in for another one: it cannot be reached, and nothing is decided about it", "server", p.serverName(a.note.For), "incarnation", uint64(a.note.Incarnation))
}

// drop deletes a note that nothing comes of. One that is there no longer has been
// collected, and what it replaced with it.
func (s *standIns) drop(a askedNote) {
	if i := slices.Index(s.notes, a.note); i >= 0 {
		s.notes = slices.Replace(s.notes, i, i+1, a.before...)
		s.changed()
	}
}

// serverName returns how to call a server of the table in logs; mu is held.
func (p *Plane) serverName(id ring.ID) string {
	if i := p.view.Table.Index(id); i >= 0 {
		s := &p.view.Table.Servers[i]
		return fmt.Sprintf("%s:%d", s.Name, s.CtlPort)
	}
	return id.String()
}

// StandIn implements flow.Ports.
func (o *ports) StandIn(peer *flow.Peer, inc ring.Incarnation) {
	p, s := (*Plane)(o), &o.standIns
	t := p.view.Table
	n := ring.StandIn{For: peer.ID(), Incarnation: inc, RingID: t.RingID, Epoch: t.Epoch, SinceUs: fault.Now().UnixMicro()}
	asked := askedNote{peer: peer}
	if i := slices.IndexFunc(s.notes, func(o ring.StandIn) bool {
		return o.For == n.For && o.Incarnation == n.Incarnation && o.RingID == n.RingID
	}); i >= 0 {
		n.SinceUs = s.notes[i].SinceUs
		asked.before = slices.Clone(s.notes[i : i+1])
		s.notes = slices.Delete(s.notes, i, i+1)
	}
	asked.note = n
	if len(s.notes) < standInsMax {
		s.notes = append(s.notes, n)
	} else {
		asked.err = errManyNotes
	}
	s.asked = append(s.asked, asked)
	s.changed()
}

// StandInEnded implements flow.Ports.
func (o *ports) StandInEnded(peer *flow.Peer) {
	p := (*Plane)(o)
	n, ok := o.standIns.active[peer.ID()]
	if !ok {
		return
	}
	delete(o.standIns.active, peer.ID())
	o.standIns.review = true
	p.trace(fault.Event{What: fault.StandInOver, Peer: uint64(peer.ID())})
	p.note(slog.LevelWarn, "this server stands in for another one no longer", "server", p.serverName(peer.ID()), "since", time.UnixMicro(n.SinceUs))
}

// AskStandIn implements flow.Ports: the question and its answer travel as a ping,
// which nodes that do not know it answer as any other.
func (o *ports) AskStandIn(deputy, peer *flow.Peer) {
	if c, ok := deputy.Handle.(carrier); ok {
		c.put(&wire.Header{Type: wire.TypePing, Flags: wire.FlagStandIn, Hash: uint64(peer.ID()), Epoch: (*Plane)(o).epoch()}, nil, true)
	}
}

// answerPing answers a ping, and the question in it; mu is held.
func (p *Plane) answerPing(now int64, from carrier, h *wire.Header) {
	pong := wire.Header{Type: wire.TypePong, Seq: h.Seq, Epoch: p.epoch()}
	if h.Flags&wire.FlagStandIn != 0 && p.core.StandInAsked(now, ring.ID(h.Hash), h.Epoch) {
		pong.Flags, pong.Hash = wire.FlagStandIn, h.Hash
	}
	from.put(&pong, nil, true)
	p.comparePeerEpoch(now, from, h.Epoch)
}

// errStoodIn ends attachments whose programs hold what is the owner's again.
var errStoodIn = errors.New("the server that this one stood in for is back, and what the program has not taken is its own")

// endDisplaced cuts off programs that hold what is another server's by now; mu is held.
func (p *Plane) endDisplaced(why error) {
	for _, a := range p.attached {
		if !a.ended && p.core.Displaced(a.session) {
			a.kill(why)
		}
	}
}

// writeNotes replaces the file with the notes, so that they outlive the machine's power.
func writeNotes(path string, notes []ring.StandIn) error {
	b, err := json.Marshal(notes)
	if err != nil {
		return fmt.Errorf("encode notes of stand-ins: %w", err)
	}
	if err := writeFile(path, b); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write notes of stand-ins: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("write notes of stand-ins: %w", err)
	}
	return nil
}

// StandInStatus is a server that this one stands in for, or has.
type StandInStatus struct {
	For     ring.ID `json:"for"`
	Name    string  `json:"name"`
	SinceUs int64   `json:"since_us"` // unix microseconds
	Active  bool    `json:"active"`   // it does; false: the ring has not been told yet that it did
}

// standInStatus returns whom this server stands in for, or has; mu is held.
func (p *Plane) standInStatus() []StandInStatus {
	var all []StandInStatus
	shown := func(n ring.StandIn, active bool) {
		all = append(all, StandInStatus{n.For, p.serverName(n.For), n.SinceUs, active})
	}
	for _, n := range p.standIns.active {
		shown(n, true)
	}
	slices.SortFunc(all, func(a, b StandInStatus) int {
		return cmp.Or(cmp.Compare(a.SinceUs, b.SinceUs), strings.Compare(a.Name, b.Name))
	})
	for _, n := range p.standIns.notes {
		if is, ok := p.standIns.active[n.For]; !ok || is.Incarnation != n.Incarnation {
			shown(n, false)
		}
	}
	return all
}
