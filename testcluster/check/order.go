package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/chmpx/chmpx/ring"
	"github.com/chmpx/chmpx/wire"
)

// stream is the messages of one session with one hash.
type stream struct {
	session wire.SessionID
	hash    uint64
}

// order judges that the messages of a session with one hash were first taken
// in the order in which they were accepted.
func (j *judge) order() {
	streams := map[stream][]*message{}
	for _, m := range j.messages {
		// What was reported as perhaps delivered may come late, and so may what
		// would have been if its sender had lived.
		if m.kind == wire.KindHash && m.accepted && m.sender != nil && len(m.takes) > 0 && m.outcomes[MaybeFailed] == 0 && !(j.untold(m) && m.takes[0].atNs > m.expireNs) {
			s := stream{m.session, m.hash}
			streams[s] = append(streams[s], m)
		}
	}
	for _, m := range j.messages { // in this order, so that reports are the same each time
		s := stream{m.session, m.hash}
		if streams[s] != nil {
			j.inOrder(streams[s])
			delete(streams, s)
		}
	}
}

func (j *judge) inOrder(ms []*message) {
	slices.SortFunc(ms, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
	var later *message // of those after the one that is looked at, the one taken first
	for _, m := range slices.Backward(ms) {
		first := m.takes[0]
		if later != nil && later.takes[0].atNs <= first.afterNs && !j.unseen(m, later) {
			j.rep.Numbers.Reordered++
			s := about(m, first.atNs)
			s.messages = append(s.messages, later)
			j.violated(Violation{Clause: Order, AtNs: first.atNs, Text: fmt.Sprintf("%v took %v %v after %v had taken its successor %d",
				first.by, m, millis(first.atNs-later.takes[0].atNs), later.takes[0].by, later.seq)}, s)
		}
		if later == nil || first.atNs < later.takes[0].atNs {
			later = m
		}
	}
}

// unseen reports whether m may have been taken before later without a record:
// by another goroutine of the same program, which was killed.
func (j *judge) unseen(m, later *message) bool {
	p := later.takes[0].by
	if p.threads == 1 || p.unknown == 0 || !m.takes[0].marked {
		return false
	}
	p.unknown--
	j.rep.Numbers.Unknown++
	return true
}

// owners judges that a server takes nothing of a hash any more when another
// one has taken for it by a newer table.
func (j *judge) owners() {
	byHash := map[uint64][]ownedTake{}
	var hashes []uint64
	for _, m := range j.messages {
		if m.kind != wire.KindHash || m.sender == nil {
			continue
		}
		for _, t := range m.takes {
			n := j.nodes[t.by.Node]
			if n == nil {
				continue
			}
			if byHash[m.hash] == nil {
				hashes = append(hashes, m.hash)
			}
			byHash[m.hash] = append(byHash[m.hash], ownedTake{take: t, m: m, node: n, least: n.epochs.least(t.afterNs)})
		}
	}
	for _, h := range hashes {
		j.oneOwner(byHash[h])
	}
}

// ownedTake is a take with the oldest table that its node can have gone by.
type ownedTake struct {
	take
	m     *message
	node  *node
	least ring.Epoch
}

// tenure is the take of a node by its newest table, as of some time.
type tenure struct {
	atNs   int64
	newest ownedTake
}

// oneOwner judges the takes of one hash.
func (j *judge) oneOwner(takes []ownedTake) {
	slices.SortStableFunc(takes, func(a, b ownedTake) int { return cmp.Compare(a.atNs, b.atNs) })
	tenures := map[*node][]tenure{}
	for _, t := range takes {
		most, known := t.node.epochs.most(t.atNs)
		for other, before := range tenures {
			i, _ := slices.BinarySearchFunc(before, t.afterNs, func(o tenure, at int64) int { return cmp.Compare(o.atNs, at) })
			if other == t.node || i == 0 || !known {
				continue
			}
			o := before[i-1].newest
			if o.least == (ring.Epoch{}) || most.Compare(o.least) > 0 {
				continue
			}
			if besideEachOther(t, o) {
				j.rep.Numbers.StoodIn++
				continue
			}
			if t.node.unaware(t.afterNs, t.atNs) {
				j.rep.Numbers.Unaware++
				continue
			}
			s := about(t.m, t.atNs)
			s.messages = append(s.messages, o.m)
			j.violated(Violation{Clause: OneOwner, AtNs: t.atNs,
				Text: fmt.Sprintf("%v took %v by table %v or an older one; %v earlier %v had taken for this hash by table %v or a newer one",
					t.by, t.m, most, millis(t.atNs-o.atNs), o.by, o.least)}, s)
			break
		}
		mine := tenures[t.node]
		next := tenure{t.atNs, t}
		if n := len(mine); n > 0 && mine[n-1].newest.least.Compare(t.least) > 0 {
			next.newest = mine[n-1].newest
		}
		tenures[t.node] = append(mine, next)
	}
}

// epochs knows what table a node went by at what time.
type epochs struct {
	seen []epochAt // in order of time; epochs that go back are judged elsewhere
	// installed are the tables that the node's trace names. From the first on
	// they say exactly what it went by.
	installed []epochAt
}

// epochAt is an epoch that a node had at some time in a span.
type epochAt struct {
	span
	epoch ring.Epoch
}

// observe takes over what a node answered, in order of time.
func (e *epochs) observe(obs []*Observation) {
	for _, o := range obs {
		e.seen = append(e.seen, epochAt{span{o.AtNs, o.DoneNs}, o.State.Data.Epoch})
	}
}

// least returns an epoch that is not newer than what the node had at a time.
func (e *epochs) least(at int64) ring.Epoch {
	if i := e.lastInstalled(at); i >= 0 {
		return e.installed[i].epoch
	}
	i, _ := slices.BinarySearchFunc(e.seen, at, func(s epochAt, at int64) int { return cmp.Compare(s.to, at) })
	if i == 0 {
		return ring.Epoch{}
	}
	return e.seen[i-1].epoch
}

// most returns an epoch that is not older than what the node had at a time, if
// one is known.
func (e *epochs) most(at int64) (ring.Epoch, bool) {
	if i := e.lastInstalled(at); i >= 0 {
		return e.installed[i].epoch, true
	}
	for i, _ := slices.BinarySearchFunc(e.seen, at, func(s epochAt, at int64) int { return cmp.Compare(s.to, at) }); i < len(e.seen); i++ {
		if e.seen[i].from >= at {
			return e.seen[i].epoch, true
		}
	}
	return ring.Epoch{Era: math.MaxUint32, Index: math.MaxUint64}, false
}

// lastInstalled returns the table that was the node's by its trace, -1 if the
// trace does not say.
func (e *epochs) lastInstalled(at int64) int {
	i, found := slices.BinarySearchFunc(e.installed, at, func(s epochAt, at int64) int { return cmp.Compare(s.from, at) })
	if found {
		return i
	}
	return i - 1
}
