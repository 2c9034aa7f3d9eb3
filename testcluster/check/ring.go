package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chmpx/chmpx/ring"
)

// judgeRing judges what the nodes showed of the ring.
func (j *judge) judgeRing() {
	j.rep.Numbers.Observations = len(j.Observations)
	for _, name := range slices.Sorted(maps.Keys(j.nodes)) {
		n := j.nodes[name]
		j.forward(n)
		j.current(n)
		j.mergesOf(n)
	}
	j.agreement()
	j.incarnations()
	j.safe()
}

// forward judges that nothing goes back on a node. While a process lives
// nothing may; across its starts the ring must not, once it is admitted again:
// before that a server knows only what it had written down, and a slave is
// never admitted.
func (j *judge) forward(n *node) {
	var newest *Observation   // of the earlier starts and this one, by version
	var admitted *Observation // the last one with an incarnation
	for i, o := range n.obs {
		if i > 0 {
			if before := n.obs[i-1]; before.DoneNs <= o.AtNs {
				j.step(n, before, o)
			}
		}
		if o.State.Incarnation != 0 {
			if newest != nil && newest.State.Process.PID != o.State.Process.PID && newest.DoneNs <= o.AtNs {
				j.notBehind(n, newest, o)
			}
			if admitted != nil && admitted.DoneNs <= o.AtNs && o.State.Incarnation < admitted.State.Incarnation {
				j.back(n, admitted, o, "its incarnation", admitted.State.Incarnation, o.State.Incarnation)
			}
			admitted = o
		}
		if newest == nil || o.State.Epoch.Compare(newest.State.Epoch) >= 0 && o.State.Version >= newest.State.Version {
			newest = o
		}
	}
}

// step judges two answers of a node, one after the other.
func (j *judge) step(n *node, before, o *Observation) {
	was, is := &before.State, &o.State
	if was.Process.PID != is.Process.PID {
		return
	}
	j.notBehind(n, before, o)
	if is.Data.Epoch.Compare(was.Data.Epoch) < 0 {
		j.back(n, before, o, "the table that routes", was.Data.Epoch, is.Data.Epoch)
	}
	if is.Raft.Term != 0 && is.Raft.Term < was.Raft.Term {
		j.back(n, before, o, "the term of raft", was.Raft.Term, is.Raft.Term)
	}
}

// notBehind judges that the ring of a later answer is not older.
func (j *judge) notBehind(n *node, before, o *Observation) {
	was, is := &before.State, &o.State
	switch {
	case is.Epoch.Compare(was.Epoch) < 0:
		j.back(n, before, o, "the table", was.Epoch, is.Epoch)
	case is.RingID != was.RingID && was.RingID != 0 && is.Epoch.Era <= was.Epoch.Era:
		j.back(n, before, o, "the ring", was.RingID.String(), "another one of no later era, "+is.RingID.String())
	case is.RingID == was.RingID && is.Version < was.Version:
		j.back(n, before, o, "the version of the ring", was.Version, is.Version)
	}
}

func (j *judge) back(n *node, before, o *Observation, what string, was, is any) {
	j.violated(Violation{Clause: Forward, AtNs: o.DoneNs, Text: fmt.Sprintf("%s went back on %s: from %v to %v", what, n.name, was, is)},
		j.shown(before, o))
}

// shown is the story of some answers, of which the last breaks the clause.
func (j *judge) shown(obs ...*Observation) story {
	var s story
	for i, o := range obs {
		s.lines = append(s.lines, Line{AtNs: o.DoneNs, Group: groupRing, Where: o.Node, Here: i == len(obs)-1, Text: fmt.Sprintf(
			"process %d, incarnation %d, term %d, routes by %v, shows %s", o.State.Process.PID, o.State.Incarnation, o.State.Raft.Term,
			o.State.Data.Epoch, j.changeText(nil, &o.State))})
	}
	return s
}

const (
	// staleNs is how long a node may route by a table that is older than the
	// newest that it has applied.
	staleNs = 2 * int64(time.Second)
	// gapNs is the longest time without an answer in which a node is believed to run.
	gapNs = int64(time.Second)
)

// current judges that a node routes by what it has applied. It speaks only where
// the node answers all the time: one that is stopped does nothing.
func (j *judge) current(n *node) {
	var since *Observation // routes by an older table than this one shows
	for i, o := range n.obs {
		if since != nil && (o.State.Process.PID != since.State.Process.PID || o.DoneNs-n.obs[i-1].DoneNs > gapNs ||
			o.State.Data.Epoch.Compare(since.State.Epoch) >= 0) {
			since = nil
		}
		switch {
		case since == nil && o.State.Data.Epoch.Compare(o.State.Epoch) < 0:
			since = o
		case since != nil && o.AtNs-since.DoneNs > staleNs:
			j.violated(Violation{Clause: Current, AtNs: o.DoneNs, Text: fmt.Sprintf("%s routes by table %v, %s after it has shown table %v",
				n.name, o.State.Data.Epoch, millis(o.AtNs-since.DoneNs), since.State.Epoch)}, j.shown(since, o))
			since = nil
		}
	}
}

// mergesOf judges that a merge which was followed by another one does not come back.
func (j *judge) mergesOf(n *node) {
	var newest *Observation
	for _, o := range n.obs {
		if o.State.Merge == nil || o.State.Merge.ID == 0 {
			continue
		}
		same := newest != nil && newest.State.Process.PID == o.State.Process.PID && newest.DoneNs <= o.AtNs
		if same && o.State.Merge.ID < newest.State.Merge.ID {
			j.violated(Violation{Clause: OneMerge, AtNs: o.DoneNs, Text: fmt.Sprintf("%s shows merge %d, after it has shown merge %d",
				n.name, o.State.Merge.ID, newest.State.Merge.ID)}, j.shown(newest, o))
			continue
		}
		newest = o
	}
}

// shownVersion names a version of the ring.
type shownVersion struct {
	ringID, version uint64
}

// agreement judges that a version of the ring is the same on all nodes, and
// that incarnations grow from version to version.
func (j *judge) agreement() {
	first := map[shownVersion]*Observation{}
	for _, o := range j.inTime() {
		v := shownVersion{uint64(o.State.RingID), o.State.Version}
		if v.ringID == 0 || v.version == 0 {
			continue
		}
		f := first[v]
		if f == nil {
			first[v] = o
		} else if text := j.difference(&f.State, &o.State); text != "" {
			j.violated(Violation{Clause: Agreement, AtNs: o.DoneNs,
				Text: fmt.Sprintf("version %d of the ring is another one on %s than on %s: %s", v.version, o.Node, f.Node, text)}, j.shown(f, o))
		}
	}
	versions := slices.SortedFunc(maps.Keys(first), func(a, b shownVersion) int {
		return cmp.Or(cmp.Compare(a.ringID, b.ringID), cmp.Compare(a.version, b.version))
	})
	for i := 1; i < len(versions); i++ {
		if versions[i].ringID == versions[i-1].ringID {
			j.growing(first[versions[i-1]], first[versions[i]])
		}
	}
}

// growing judges the incarnations of servers in two versions of the ring.
func (j *judge) growing(before, after *Observation) {
	for _, s := range after.State.Servers {
		if was := serverOf(&before.State, ring.ID(s.ID)); was != nil && s.Incarnation < was.Incarnation {
			j.violated(Violation{Clause: Forward, AtNs: after.DoneNs, Text: fmt.Sprintf("the incarnation of %s is %d in version %d and %d in version %d",
				j.nameOf(ring.ID(s.ID)), was.Incarnation, before.State.Version, s.Incarnation, after.State.Version)}, j.shown(before, after))
		}
	}
}

// difference says how two answers about one version differ, "" if they do not.
func (j *judge) difference(a, b *State) string {
	switch {
	case a.Epoch != b.Epoch:
		return fmt.Sprintf("table %v and %v", a.Epoch, b.Epoch)
	case len(a.Servers) != len(b.Servers):
		return fmt.Sprintf("%d servers and %d", len(a.Servers), len(b.Servers))
	}
	for i := range a.Servers {
		if a.Servers[i] != b.Servers[i] {
			return fmt.Sprintf("%+v and %+v", a.Servers[i], b.Servers[i])
		}
	}
	return ""
}

// start names one admitted start of a server.
type start struct {
	server      ring.ID
	incarnation ring.Incarnation
}

// incarnations judges that an incarnation belongs to one process.
func (j *judge) incarnations() {
	owner := map[ring.Incarnation]ring.ID{}
	first := map[start]*Observation{}
	for _, o := range j.inTime() {
		if o.State.Incarnation == 0 {
			continue
		}
		s := start{ring.ID(o.State.ID), o.State.Incarnation}
		switch f := first[s]; {
		case f == nil:
			first[s] = o
			if other, ok := owner[s.incarnation]; ok {
				j.violated(Violation{Clause: Incarnation, AtNs: o.DoneNs, Text: fmt.Sprintf("%s and %s both had the incarnation %d",
					o.Node, j.nameOf(other), s.incarnation)}, j.shown(first[start{other, s.incarnation}], o))
			}
			owner[s.incarnation] = s.server
		case f.State.Process.PID != o.State.Process.PID:
			j.violated(Violation{Clause: Incarnation, AtNs: o.DoneNs, Text: fmt.Sprintf("two processes of %s, %d and %d, had the incarnation %d",
				o.Node, f.State.Process.PID, o.State.Process.PID, s.incarnation)}, j.shown(f, o))
		}
	}
}

// safe judges that every status is one that CHMPX allows.
func (j *judge) safe() {
	told := map[shownVersion]bool{}
	for _, o := range j.inTime() {
		v := shownVersion{uint64(o.State.RingID), o.State.Version}
		for _, s := range o.State.Servers {
			if strings.HasPrefix(s.Status, "NOT SAFE") && !told[v] {
				told[v] = true
				j.violated(Violation{Clause: Safe, AtNs: o.DoneNs,
					Text: fmt.Sprintf("%s shows %s as %s", o.Node, j.nameOf(ring.ID(s.ID)), s.Status)}, j.shown(o))
			}
		}
	}
}

// alive judges that no process ended by itself.
func (j *judge) alive() {
	for _, p := range j.Processes {
		if p.EndNs != 0 && !p.Wanted {
			j.violated(Violation{Clause: Alive, AtNs: p.EndNs, Text: fmt.Sprintf("process %d of %s ended by itself", p.PID, p.Name)},
				story{from: p.EndNs, to: p.EndNs})
		}
	}
}
