package check

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/chmpx/chmpx/wire"
)

// play makes up a long history of a ring that keeps every promise: messages of
// all kinds, servers and the sender's node that are killed and come back, slots
// that move, programs that are killed, commands and reads.
type play struct {
	*scene
	random  *rand.Rand
	now     int64 // ms
	seq     uint64
	version uint64
	inc     [3]uint64 // of s1, s2, s3
	up      [3]bool
	owner   map[uint64]int // hash to server
	flag    bool
	filled  uint64
}

var hashes = []uint64{101, 102, 103, 104}

func newPlay(seed uint64) *play {
	p := &play{scene: newScene(), random: rand.New(rand.NewPCG(seed, 1)), now: 100, version: 10, inc: [3]uint64{1, 2, 3},
		up: [3]bool{true, true, true}, owner: map[uint64]int{}}
	p.Earlier = []string{sessionOf("x").String()}
	for i, h := range hashes {
		p.owner[h] = i % 3
	}
	p.changed()
	for range 80 {
		p.now += 10
		p.steps()[p.random.IntN(len(p.steps()))]()
	}
	p.now += 1000
	p.changed()
	p.refused()
	for i := range p.Histories {
		slices.SortStableFunc(p.Histories[i].Events, func(a, b Event) int { return cmp.Compare(a.AtNs, b.AtNs) })
	}
	return p
}

func (p *play) steps() []func() {
	return []func(){p.message, p.message, p.message, p.wait, p.request, p.toRandom, p.toAll, p.refused, p.failed, p.killServer, p.killSender,
		p.move, p.command, p.read, p.read}
}

// changed lets all nodes show a new version of the ring.
func (p *play) changed() {
	p.version += 2
	p.now += 10
	text := ""
	for i := range p.up {
		word := "up"
		if !p.up[i] {
			word = "down"
		}
		text += fmt.Sprintf("%s:%d ", word, p.inc[i])
	}
	for i, n := range []string{"c1", "s1", "s2", "s3"} {
		if i == 0 || p.up[i-1] {
			p.observe(p.now, n, p.version, p.version, text, func(s *State) { s.SuspendMerge = p.flag })
		}
	}
	p.now += 10
}

// receiver names the program of a server.
func receiver(i int) string { return fmt.Sprintf("r%d", i+1) }

// take lets the program of a server take. What it takes before, of an earlier
// round, says when it can have taken this at the earliest.
func (p *play) take(i int, seq uint64, h uint64, change ...func(*Event)) {
	p.filler(i, p.now+2)
	p.add(receiver(i), p.now+3, Taken, seq, append([]func(*Event){hash(h)}, change...)...)
	p.now += 3
}

func (p *play) filler(i int, at int64) {
	p.filled++
	p.add(receiver(i), at, Taken, p.filled, func(e *Event) { e.Session = sessionOf("x") })
}

func (p *play) sent(opts ...func(*Event)) (seq, h uint64) {
	p.seq++
	h = hashes[p.random.IntN(len(hashes))]
	p.send(p.now, p.seq, append([]func(*Event){hash(h)}, opts...)...)
	return p.seq, h
}

func (p *play) message() {
	seq, h := p.sent()
	p.take(p.owner[h], seq, h)
}

func (p *play) wait() {
	seq, h := p.sent()
	p.take(p.owner[h], seq, h)
	p.add("p", p.now+1, Settled, seq, hash(h))
}

func (p *play) request() {
	seq, h := p.sent()
	p.take(p.owner[h], seq, h)
	p.add("p", p.now+1, Replied, seq, hash(h))
}

func (p *play) toRandom() {
	seq, _ := p.sent(kind(wire.KindRandom))
	p.take(p.anyUp(), seq, 0)
}

func (p *play) toAll() {
	if p.up != [3]bool{true, true, true} {
		return
	}
	seq, _ := p.sent(kind(wire.KindBroadcast))
	p.add("p", p.now+2, Receivers, seq, kind(wire.KindBroadcast), count(3))
	for i := range p.up {
		p.take(i, seq, 0)
	}
}

func (p *play) refused() {
	p.add("p", p.now, Sending, p.seq+1, hash(101))
	p.add("p", p.now+1, Refused, p.seq+1, hash(101))
}

func (p *play) failed() {
	seq, h := p.sent()
	p.add("p", p.now+3, Failed, seq, hash(h))
}

func (p *play) anyUp() int {
	for {
		if i := p.random.IntN(3); p.up[i] {
			return i
		}
	}
}

// killServer kills a server with a message that it has just given to its
// program, so that another one takes it again.
func (p *play) killServer() {
	seq, h := p.sent()
	dead := p.owner[h]
	p.take(dead, seq, h)
	p.now += 5
	name := fmt.Sprintf("s%d", dead+1)
	p.end(name, p.now, true)
	p.up[dead] = false
	next := (dead + 1) % 3
	for h, o := range p.owner {
		if o == dead {
			p.owner[h] = next
		}
	}
	p.changed()
	p.now += 1500 // longer than a program may need to notice
	p.take(next, seq, h, marked)
	p.now += 50
	p.start(name, p.now)
	p.up[dead], p.inc[dead] = true, p.version+1
	p.changed()
}

// killSender kills the sender's node, so that it sends a message again that the
// server had taken, and that another server owns meanwhile.
func (p *play) killSender() {
	seq, h := p.sent()
	p.take(p.owner[h], seq, h)
	p.end("c1", p.now+1, true)
	p.start("c1", p.now+20)
	p.now += 30
	p.owner[h] = (p.owner[h] + 1) % 3
	p.changed()
	p.take(p.owner[h], seq, h, marked)
}

func (p *play) move() {
	h := hashes[p.random.IntN(len(hashes))]
	p.owner[h] = (p.owner[h] + 1) % 3
	p.changed()
}

func (p *play) command() {
	p.flag = !p.flag
	command := map[bool]string{true: "SUSPENDMERGE", false: "NOSUSPENDMERGE"}[p.flag]
	p.op(p.now, p.now+2, command, "")
	p.now += 5
	p.version++
}

func (p *play) read0(at int64) {
	p.scene.read(at, at+2, p.version, p.flag, fmt.Sprintf("up:%d up:%d up:%d", p.inc[0], p.inc[1], p.inc[2]))
}

func (p *play) read() { p.read0(p.now) }

// A mutation breaks one promise in a history that keeps all of them. It returns
// false if there is nothing in the history to break.
type mutation struct {
	name string
	want Clause
	make func(p *play) bool
}

// found is an event with its history.
type found struct {
	h *History
	i int
}

func (f found) event() *Event { return &f.h.Events[f.i] }
func (f found) drop()         { f.h.Events = slices.Delete(f.h.Events, f.i, f.i+1) }

// pick returns one of the events that fit.
func (p *play) pick(fits func(h *History, e *Event) bool) (found, bool) {
	var all []found
	for k := range p.Histories {
		for i := range p.Histories[k].Events {
			if fits(&p.Histories[k], &p.Histories[k].Events[i]) {
				all = append(all, found{&p.Histories[k], i})
			}
		}
	}
	if len(all) == 0 {
		return found{}, false
	}
	return all[p.random.IntN(len(all))], true
}

// events returns how often something happened to a message of p.
func (p *play) events(seq uint64, what What) (n int) {
	for _, h := range p.Histories {
		for _, e := range h.Events {
			if e.Session == sessionOf("p") && e.Seq == seq && e.What == what {
				n++
			}
		}
	}
	return n
}

func (p *play) kindOf(seq uint64) wire.Kind {
	for _, e := range p.of("p").Events {
		if e.Seq == seq && e.What == Accepted {
			return e.Kind
		}
	}
	return 0
}

// plain says that an event is the only take of a message that went to one
// server and has no outcome.
func (p *play) plain(_ *History, e *Event) bool {
	return p.once(e, 0)
}

// once says that an event is the only take of a message to one server with
// this outcome.
func (p *play) once(e *Event, outcome What) bool {
	if e.What != Taken || e.Session != sessionOf("p") || p.events(e.Seq, Taken) != 1 || p.kindOf(e.Seq) == wire.KindBroadcast {
		return false
	}
	for _, w := range []What{Settled, Replied, Failed} {
		if (p.events(e.Seq, w) > 0) != (w == outcome) {
			return false
		}
	}
	return true
}

func (p *play) dropTake(outcome What) bool {
	f, ok := p.pick(func(_ *History, e *Event) bool { return p.once(e, outcome) })
	if ok {
		f.drop()
	}
	return ok
}

var mutations = []mutation{
	{"drop a take", Kept, func(p *play) bool { return p.dropTake(0) }},
	{"drop the take of a settled message", Outcome, func(p *play) bool { return p.dropTake(Settled) }},
	{"drop the take of a request", Outcome, func(p *play) bool { return p.dropTake(Replied) }},
	{"swap two takes of a program", Order, func(p *play) bool {
		a, ok := p.pick(func(h *History, e *Event) bool { return p.plain(h, e) && p.kindOf(e.Seq) == wire.KindHash })
		if !ok {
			return false
		}
		for i := a.i + 1; i < len(a.h.Events); i++ {
			b := found{a.h, i}
			if e := b.event(); e.Hash == a.event().Hash && p.plain(a.h, e) {
				// With all between them, so that none of another session is in the way.
				a.event().Seq, b.event().Seq = b.event().Seq, a.event().Seq
				return true
			}
		}
		return false
	}},
	{"remove a mark", Marked, func(p *play) bool {
		f, ok := p.pick(func(h *History, e *Event) bool { return e.Marked && p.steady(h.Node, e.AtNs) })
		if ok {
			f.event().Marked = false
		}
		return ok
	}},
	{"take again without mark", Marked, func(p *play) bool { return p.again(false) }},
	{"take again for no reason", Cause, func(p *play) bool { return p.again(true) }},
	{"another hash", Known, func(p *play) bool {
		f, ok := p.pick(p.plain)
		if ok {
			f.event().Hash += 1000
		}
		return ok
	}},
	{"a message of nobody", Known, func(p *play) bool {
		f, ok := p.pick(func(_ *History, e *Event) bool { return e.What == Taken && e.Session == sessionOf("x") })
		if ok {
			f.event().Session = sessionOf("y")
		}
		return ok
	}},
	{"taken though refused", NotRefused, func(p *play) bool {
		f, ok := p.pick(func(_ *History, e *Event) bool {
			return e.What == Refused && p.events(e.Seq, Accepted) == 0
		})
		if ok {
			p.add("r1", 50_000, Taken, f.event().Seq, hash(101))
		}
		return ok
	}},
	{"taken though reported as not delivered", NotDelivered, func(p *play) bool {
		f, ok := p.pick(p.plain)
		if ok {
			p.add("p", 50_000, Failed, f.event().Seq)
		}
		return ok
	}},
	{"told twice", Outcome, func(p *play) bool {
		f, ok := p.pick(func(_ *History, e *Event) bool { return e.What == Settled })
		if ok {
			p.add("p", 50_000, MaybeFailed, f.event().Seq)
		}
		return ok
	}},
	{"a second reply", OneReply, func(p *play) bool {
		f, ok := p.pick(func(_ *History, e *Event) bool { return e.What == Replied })
		if ok {
			p.add("p", 50_000, Replied, f.event().Seq)
		}
		return ok
	}},
	{"a receiver too few", Copies, func(p *play) bool {
		f, ok := p.pick(func(h *History, e *Event) bool {
			return e.What == Taken && p.kindOf(e.Seq) == wire.KindBroadcast && e.Session == sessionOf("p") && p.calm(h.Node, e.AtNs)
		})
		if ok {
			f.drop()
		}
		return ok
	}},
	{"a receiver too many", Copies, func(p *play) bool {
		f, ok := p.pick(func(_ *History, e *Event) bool { return e.What == Receivers && p.calm("c1", e.AtNs) })
		if ok {
			f.event().Count--
		}
		return ok
	}},
	{"taken by the last owner", OneOwner, lastOwner},
	{"an epoch back", Forward, func(p *play) bool {
		o := &p.Observations[len(p.Observations)-1]
		p.Observations = append(p.Observations, *o)
		o = &p.Observations[len(p.Observations)-1]
		o.AtNs, o.DoneNs = 60_000*msec, 60_001*msec
		o.State.Data.Epoch.Index -= 2
		return true
	}},
	{"a status of its own", Agreement, func(p *play) bool {
		o := &p.Observations[p.random.IntN(len(p.Observations))]
		o.State.Servers = slices.Clone(o.State.Servers)
		o.State.Servers[0].PendingHash = 7
		return true
	}},
	{"an incarnation twice", Incarnation, func(p *play) bool {
		o := p.Observations[len(p.Observations)-1]
		o.AtNs, o.DoneNs, o.State.Process.PID = 60_000*msec, 60_001*msec, 99
		p.Observations = append(p.Observations, o)
		return true
	}},
	{"a read that forgets", Linearizable, func(p *play) bool {
		known := false
		for i, o := range p.Ops {
			if o.Command == "READ" && known {
				st := *o.Read
				st.SuspendMerge = !st.SuspendMerge
				p.Ops[i].Read = &st
				return true
			}
			known = true
		}
		return false
	}},
	{"a node ends by itself", Alive, func(p *play) bool {
		i := slices.IndexFunc(p.Processes, func(c Process) bool { return c.EndNs != 0 })
		if i >= 0 {
			p.Processes[i].Wanted = false
		}
		return i >= 0
	}},
}

// again lets a message be taken a second time, though nothing has happened.
func (p *play) again(mark bool) bool {
	f, ok := p.pick(func(h *History, e *Event) bool {
		return p.plain(h, e) && p.calm(h.Node, e.AtNs-20*msec) && p.calm("c1", e.AtNs-20*msec)
	})
	if ok {
		e := *f.event()
		e.AtNs += msec / 2
		e.Marked = mark
		f.h.Events = slices.Insert(f.h.Events, f.i+1, e)
	}
	return ok
}

// calm says that a node lives from a time on until the end, or was not DOWN for
// long before it.
func (p *play) calm(node string, at int64) bool {
	return !slices.ContainsFunc(p.Processes, func(c Process) bool {
		return c.Name == node && c.EndNs != 0 && c.EndNs > at-3000*msec
	})
}

// steady says that a node has not ended for long before a time, nor shortly after it.
func (p *play) steady(node string, at int64) bool {
	return !slices.ContainsFunc(p.Processes, func(c Process) bool {
		return c.Name == node && c.EndNs != 0 && c.EndNs > at-3000*msec && c.EndNs < at+500*msec
	})
}

// lastOwner lets a hash be taken once more by the server that had owned it
// before it moved, after the new owner has taken for it.
func lastOwner(p *play) bool {
	f, ok := p.pick(func(h *History, e *Event) bool {
		return p.plain(h, e) && p.kindOf(e.Seq) == wire.KindHash && p.takenBefore(h, e)
	})
	if !ok {
		return false
	}
	e := *f.event()
	for i := range p.Histories {
		h := &p.Histories[i]
		if h.Server && h.Node != f.h.Node && p.calm(h.Node, e.AtNs) {
			f.drop()
			h.Events = append(h.Events, Event{AtNs: e.AtNs - 1, What: Taken, Session: sessionOf("x"), Seq: 1 << 40}, e)
			slices.SortStableFunc(h.Events, func(a, b Event) int { return cmp.Compare(a.AtNs, b.AtNs) })
			p.answerAgain(h.Node, e.AtNs)
			return true
		}
	}
	return false
}

// answerAgain lets a node show at a time what it has shown last.
func (p *play) answerAgain(node string, at int64) {
	for _, o := range slices.Backward(p.Observations) {
		if o.Node == node && o.DoneNs < at {
			o.AtNs, o.DoneNs = at+1, at+2
			p.Observations = append(p.Observations, o)
			return
		}
	}
}

// takenBefore says that this program was the last to take of the event's hash
// before, and knew the newest table then.
func (p *play) takenBefore(h *History, e *Event) bool {
	var last *History
	var at int64
	for i := range p.Histories {
		for _, o := range p.Histories[i].Events {
			if o.What == Taken && o.Session == sessionOf("p") && o.Hash == e.Hash && o.AtNs < e.AtNs && o.AtNs > at {
				last, at = &p.Histories[i], o.AtNs
			}
		}
	}
	return last == h && !slices.ContainsFunc(p.Observations, func(o Observation) bool { return o.DoneNs > at && o.AtNs < e.AtNs }) &&
		slices.ContainsFunc(p.Observations, func(o Observation) bool { return o.Node == h.Node && o.DoneNs < at-5*msec })
}

// The judge finds nothing in histories that keep every promise, and in each that
// breaks one it finds that one and no other.
func TestMutations(t *testing.T) {
	const seeds = 25
	made := map[string]int{}
	for seed := range uint64(seeds) {
		if r := Judge(newPlay(seed).Round); !r.OK() {
			t.Fatalf("seed %d: a history that is right is judged wrong:\n%s", seed, textOf(&r))
		}
		for _, m := range mutations {
			p := newPlay(seed)
			if !m.make(p) {
				continue
			}
			made[m.name]++
			r := Judge(p.Round)
			if got := slices.Collect(maps.Keys(r.Count)); !slices.Equal(got, []Clause{m.want}) {
				t.Errorf("seed %d: %s: violated: %q, want %q\n%s", seed, m.name, got, m.want, textOf(&r))
				return
			}
		}
	}
	for _, m := range mutations {
		if made[m.name] < seeds/10 {
			t.Errorf("%s: only in %d histories of %d", m.name, made[m.name], seeds)
		}
	}
}

func textOf(r *Report) string {
	var b bytes.Buffer
	_ = r.Text(&b)
	return b.String()
}
