// Package netem is a network whose faults can be switched: TCP forwarders
// between every two hosts, without root. What a host sends to another one, on
// connections of either side, passes one Path, which can hold it, delay it,
// stall it as lost packets do, or refuse it. It knows hosts by name and nothing
// of what the bytes mean.
//
// A Network may be used by several goroutines at once.
package netem

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Condition is how bytes travel in one direction between two hosts. The zero
// value is a network at its best.
type Condition struct {
	// Refuse resets all connections between the two hosts, and new ones are
	// refused, in both directions: as if nobody listened.
	Refuse bool
	// Hold lets nothing pass and says nothing: connections hang. What was held
	// goes on its way when the condition is over.
	Hold bool

	Delay  time.Duration // of everything
	Jitter time.Duration // up to so much more, drawn anew for what is written at once; order is kept
	Spread time.Duration // up to so much more, drawn once for each connection: one overtakes the other
	// Loss is the chance that what is written at once meets a lost packet: it is
	// late by the time until TCP sends again. One in 50 of those ends its connection.
	Loss float64
	Rate int // bytes per second of one connection; 0: any
}

// merge returns what both do together.
func (c Condition) merge(o Condition) Condition {
	c.Refuse, c.Hold = c.Refuse || o.Refuse, c.Hold || o.Hold
	c.Delay, c.Jitter, c.Spread = c.Delay+o.Delay, c.Jitter+o.Jitter, c.Spread+o.Spread
	c.Loss = max(c.Loss, o.Loss)
	if c.Rate == 0 || o.Rate != 0 && o.Rate < c.Rate {
		c.Rate = o.Rate
	}
	return c
}

// direction is from one host to another.
type direction struct{ from, to string }

// Network has a forwarder for each pair of hosts of which one connects to the other.
type Network struct {
	seed uint64

	mu         sync.Mutex // guards what follows
	rules      rules
	paths      map[direction]*path
	forwarders map[direction]*forwarder
	down       map[string]bool // hosts on which nobody listens
	unplugged  map[string]bool // hosts whose link is down
	drawn      uint64          // connections so far
}

type rule struct {
	direction
	Condition
}

// rules are those that are in force.
type rules []*rule

// apply adds a rule and has the network brought in line with it, both under mu,
// which guards the rules. undo takes it away; it may be called again.
func (rs *rules) apply(mu *sync.Mutex, r *rule, update func(direction) error) (undo func() error, err error) {
	mu.Lock()
	defer mu.Unlock()
	*rs = append(*rs, r)
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		*rs = slices.DeleteFunc(*rs, func(other *rule) bool { return other == r })
		return update(r.direction)
	}, update(r.direction)
}

// New returns a network without hosts. The same seed draws the same delays.
func New(seed uint64) *Network {
	return &Network{seed: seed, paths: map[direction]*path{}, forwarders: map[direction]*forwarder{}, down: map[string]bool{}, unplugged: map[string]bool{}}
}

// Forward lets host from connect to host to, which listens at target: from must
// dial addr instead. The port of addr must not be one that the kernel gives to
// outgoing connections, since it is free from time to time.
func (n *Network) Forward(from, to, addr, target string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("forward from %s to %s: %w", from, to, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f := &forwarder{network: n, addr: addr, target: target,
		there: n.path(direction{from, to}), back: n.path(direction{to, from}), conns: map[net.Conn]struct{}{}}
	n.forwarders[direction{from, to}] = f
	f.listen(l)
	return nil
}

// path returns the path of a direction; mu is held.
func (n *Network) path(d direction) *path {
	p := n.paths[d]
	if p == nil {
		p = &path{changed: make(chan struct{})}
		n.paths[d] = p
	}
	return p
}

// Apply puts a condition on everything that travels from one host to another,
// beside those that are there. Undo takes it away; it may be called again. An
// error of undo says that a host cannot be reached any more: its port was
// taken by somebody else.
func (n *Network) Apply(from, to string, c Condition) (undo func() error, err error) {
	return n.rules.apply(&n.mu, &rule{direction{from, to}, c}, n.update)
}

// update brings the paths between two hosts in line with the rules; mu is held.
func (n *Network) update(d direction) error {
	back := direction{d.to, d.from}
	there, here := conditionOf(n.rules, d), conditionOf(n.rules, back)
	refuse, hold := there.Refuse || here.Refuse || n.unplugged[d.from] || n.unplugged[d.to], there.Hold || here.Hold
	n.path(d).set(there)
	n.path(back).set(here)
	var errs []error
	for _, d := range []direction{d, back} {
		if f := n.forwarders[d]; f != nil {
			errs = append(errs, f.refuse(refuse, n.down[d.to] && !hold))
		}
	}
	return errors.Join(errs...)
}

// Down says that nobody listens on a host, or that somebody does again. A
// forwarder cannot find out before it has taken a connection, so that without
// this who connects to a dead host would not be refused but reset.
func (n *Network) Down(host string, down bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[host] = down
	return n.updateAll(func(d direction) bool { return d.to == host })
}

// conditionOf returns what all rules for a direction do together.
func conditionOf(rules rules, d direction) (c Condition) {
	for _, r := range rules {
		if r.direction == d {
			c = c.merge(r.Condition)
		}
	}
	return c
}

// Link takes the link of a host down, so that everybody is refused in both
// directions, or up again.
func (n *Network) Link(host string, up bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unplugged[host] = !up
	return n.updateAll(func(d direction) bool { return d.from == host || d.to == host })
}

// updateAll updates the paths of some forwarders; mu is held.
func (n *Network) updateAll(of func(direction) bool) error {
	var errs []error
	for d := range n.forwarders {
		if of(d) {
			errs = append(errs, n.update(d))
		}
	}
	return errors.Join(errs...)
}

// Close ends all forwarders and their connections. It returns nil.
func (n *Network) Close() error {
	n.mu.Lock()
	forwarders := n.forwarders
	n.forwarders = nil
	n.mu.Unlock()
	for _, f := range forwarders {
		f.close()
	}
	return nil
}

// draw returns a seed for a connection.
func (n *Network) draw() (uint64, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drawn++
	return n.seed, n.drawn
}

// path is one direction between two hosts.
type path struct {
	mu      sync.Mutex // guards what follows
	now     Condition
	changed chan struct{} // closed when now changes
}

func (p *path) set(c Condition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == p.now {
		return
	}
	p.now = c
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *path) get() (Condition, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.changed
}
