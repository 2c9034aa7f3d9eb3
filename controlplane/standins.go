package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// A server that could not reach the acting owner of a slot, while nothing could
// be decided, may have stood in for it, and has a note of that on its disk. Before
// the leader admits a start it asks all servers for their notes: who was
// stood in for lacks what the other one took. Notes about servers that live on are
// settled when the leader sees that they do.

// Timings of stand-ins.
const (
	// CollectHold is how long a server that was asked for its notes begins no other
	// stand-in: by then it has been shown what the leader asked for.
	CollectHold = 10 * time.Second
	// standInsTimeout is for the answers of all servers, standInsGlance where nobody
	// is to stand in: notes are of another time then, and a start must not be held up.
	standInsTimeout = time.Second
	standInsGlance  = 200 * time.Millisecond
	// standInsWait is how long a start waits for the notes of servers that are UP
	// and do not answer. The verdict about those that are dead mostly ends it before.
	standInsWait = 10 * time.Second
	standInTick  = time.Second
)

// errStandIns says that a start cannot be admitted yet.
var errStandIns = errors.New("controlplane: servers have not said for whom they stood in")

// standInsAnswer has the notes of a server.
type standInsAnswer struct {
	Notes []ring.StandIn `json:"notes"`
}

// collection is since when which start has waited for notes.
type collection struct {
	boot  uint64
	since time.Time
}

// standIn is a note and who wrote it.
type standIn struct {
	by ring.ID
	ring.StandIn
}

func (n standIn) body() fsm.StoodIn {
	return fsm.StoodIn{By: n.by, For: n.For, Incarnation: n.Incarnation, Epoch: n.Epoch}
}

// standIns returns this server's notes.
func (p *Plane) standIns(collect bool) []ring.StandIn {
	if p.cfg.StandIns == nil {
		return nil
	}
	return p.cfg.StandIns(collect)
}

// open reports whether the ring has still to be told of a note.
func (n standIn) open(v fsm.View) bool {
	return n.RingID == v.RingID && v.Server(n.by) != nil && v.Server(n.For) != nil && !v.Collected(n.body())
}

// decided reports whether it is known what became of whom a note is about: it
// has ended, or it lives; lives is asked about a start that the ring has for UP.
func (n standIn) decided(v fsm.View, lives func(v fsm.View, id ring.ID) bool) bool {
	s := v.Server(n.For)
	return s.Incarnation != n.Incarnation || s.Status.Live() == ring.Down || lives(v, n.For)
}

// collectStandIns has the ring learn, before a start of a server is admitted, who
// stood in for the one before. An error: not yet.
func (p *Plane) collectStandIns(ctx context.Context, up fsm.ServerUp) error {
	v := p.view()
	s := v.Server(up.ID)
	if s == nil || s.Status.Live() == ring.Up && v.Boot(up.ID) == up.Boot || !standInsMatter(v) {
		return nil
	}
	notes, missing := p.askStandIns(ctx, v)
	if len(missing) > 0 && p.awaitsStandIns(up, missing, time.Now()) {
		return fmt.Errorf("%w: %s", errStandIns, strings.Join(missing, ", "))
	}
	for _, n := range notes {
		if n.For != up.ID || !n.open(v) || s.Incarnation != n.Incarnation || s.Status.Live() == ring.Down {
			continue
		}
		// The start before this one has ended, and somebody acts in its place.
		if _, err := p.proposeHere(ctx, fsm.NodeDown{ID: up.ID, Incarnation: s.Incarnation}); err != nil {
			return err
		}
		break
	}
	for _, n := range notes {
		if n.For != up.ID && n.by != up.ID {
			continue // of no matter for this start
		}
		if err := p.settleStandIn(ctx, n, nobodyLives); err != nil {
			return err
		}
	}
	p.mu.Lock()
	delete(p.collecting, up.ID)
	p.mu.Unlock()
	return nil
}

// standInsMatter reports whether anybody can have fallen behind by a stand-in.
func standInsMatter(v fsm.View) bool {
	return v.Params.DoMerge && v.Params.Replica > 0 && v.Params.DeliverMode != "random"
}

// askStandIns asks all servers that could have stood in for somebody, at once,
// and returns their notes and who did not answer.
func (p *Plane) askStandIns(ctx context.Context, v fsm.View) (notes []standIn, missing []string) {
	timeout := standInsGlance
	if p.timesNow().AwaitStandIns {
		timeout = standInsTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var mu sync.Mutex // guards the results
	var wg sync.WaitGroup
	for _, s := range v.Table.Servers {
		if s.Status.Live() != ring.Up || s.Status.Ring() != ring.ServiceIn {
			continue
		}
		wg.Go(func() { // ended by ctx, awaited below
			got, err := p.standInsOf(ctx, s.ID)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, serverName(v, s.ID))
			}
			for _, n := range got {
				notes = append(notes, standIn{by: s.ID, StandIn: n})
			}
		})
	}
	wg.Wait()
	return notes, missing
}

// standInsOf asks one server, which may be this one, for its notes.
func (p *Plane) standInsOf(ctx context.Context, id ring.ID) ([]ring.StandIn, error) {
	if id == p.cfg.Self.ID {
		return p.standIns(true), nil
	}
	resp, err := p.client.call(ctx, p.addressOf(id), p.request(opStandIns, nil))
	if err != nil {
		return nil, err
	}
	if err := resp.err(); err != nil {
		return nil, err
	}
	var a standInsAnswer
	if err := json.Unmarshal(resp.Body, &a); err != nil {
		return nil, fmt.Errorf("%w: notes of %s: %w", errRPC, id, err)
	}
	return a.Notes[:min(len(a.Notes), evidenceLinksMax)], nil
}

// awaitsStandIns reports whether a start has to wait for servers that have not
// answered: not for ever, or a ring could not go on without one of them.
func (p *Plane) awaitsStandIns(up fsm.ServerUp, missing []string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.times.AwaitStandIns {
		return false
	}
	c := p.collecting[up.ID]
	if c.boot != up.Boot {
		p.log.Info("a server that starts waits for what others say about stand-ins", "server", up.ID, "silent", strings.Join(missing, ", "))
		c = collection{boot: up.Boot, since: now}
		p.collecting[up.ID] = c // bounded: only members get here
	}
	return now.Sub(c.since) < standInsWait
}

// collects reports whether a start of a server waits for the notes of others: that
// the one before has ended is known then, and settled with them; p.mu is held.
func (p *Plane) collects(id ring.ID, now time.Time) bool {
	return now.Sub(p.collecting[id].since) < standInsWait
}

// settleStandIn brings a note into the log, if it is known by now how it ended.
func (p *Plane) settleStandIn(ctx context.Context, n standIn, lives func(v fsm.View, id ring.ID) bool) error {
	v := p.view()
	if !n.open(v) || !n.decided(v, lives) {
		return nil
	}
	if _, err := p.proposeHere(ctx, n.body()); err != nil {
		return err
	}
	by, of := serverName(v, n.by), serverName(v, n.For)
	if s := v.Server(n.For); s.Status.Live() == ring.Up {
		p.log.Warn("a server stood in for another one that went on, or came back before this was known; what it took is not in the ring",
			"by", by, "for", of, "incarnation", uint64(n.Incarnation), "since", time.UnixMicro(n.SinceUs))
	} else {
		p.log.Warn("a server stood in for another one, which comes back without what that took",
			"by", by, "for", of, "incarnation", uint64(n.Incarnation), "since", time.UnixMicro(n.SinceUs))
	}
	return nil
}

// nobodyLives is for when there is no time to ask.
func nobodyLives(fsm.View, ring.ID) bool { return false }

// lives asks whether the start of a server that the ring has for UP runs.
func (p *Plane) lives(ctx context.Context) func(v fsm.View, id ring.ID) bool {
	return func(v fsm.View, id ring.ID) bool { return p.bootAt(ctx, id) == v.Boot(id) }
}

// standInLoop settles the notes that servers send with what they observe.
func (p *Plane) standInLoop(ctx context.Context) {
	tick := time.NewTicker(standInTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, n := range p.standInsHeard() {
			if err := p.settleStandIn(ctx, n, p.lives(ctx)); err != nil {
				p.log.Debug("note of a stand-in not committed", "err", err)
				break
			}
		}
	}
}

// standInsHeard returns the notes of this server and of those that have reported.
func (p *Plane) standInsHeard() (all []standIn) {
	for _, n := range p.standIns(false) {
		all = append(all, standIn{by: p.cfg.Self.ID, StandIn: n})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, o := range p.observed {
		for _, n := range o.standIns {
			all = append(all, standIn{by: id, StandIn: n})
		}
	}
	return all
}

// forgetStandIns lets the notes go that the ring knows of, or that are about
// another ring. Before this start is admitted its log may be an old one.
func (p *Plane) forgetStandIns(v fsm.View) {
	if p.incarnation(v) == 0 {
		return
	}
	for _, n := range p.standIns(false) {
		if !(standIn{by: p.cfg.Self.ID, StandIn: n}).open(v) {
			p.cfg.ForgetStandIn(n)
		}
	}
}
