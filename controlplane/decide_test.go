package controlplane

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

// TestJudge proves whom the leader declares DOWN on which evidence. Server 1
// leads; each case says what the leader's own link (first) and the links of
// the others say of server 9, incarnation 50.
func TestJudge(t *testing.T) {
	refused := ring.Evidence{Peer: 9, Incarnation: 50, State: ring.LinkRefused}
	silent := ring.Evidence{Peer: 9, Incarnation: 50, State: ring.LinkSilent}
	alive := ring.Evidence{Peer: 9, Incarnation: 50, State: ring.LinkAlive}
	old := ring.Evidence{Peer: 9, Incarnation: 40, State: ring.LinkRefused}
	newer := ring.Evidence{Peer: 9, Incarnation: 60, State: ring.LinkRefused}
	never := ring.Evidence{Peer: 9, State: ring.LinkRefused}
	unknown := ring.Evidence{Peer: 9}
	other := ring.Evidence{Peer: 9, Incarnation: 0, State: ring.LinkAlive}
	admitted := ring.Evidence{Peer: 9, Incarnation: 60, State: ring.LinkAlive}
	tests := []struct {
		name    string
		own     ring.Evidence
		others  map[ring.ID]ring.Evidence // by observer 2, 3, 4
		downs   []ring.ID                 // observers that are DOWN themselves
		victim  bool                      // server 9 is DOWN already
		settled bool
		old     bool // the leader's link has led to another process for long
		budget  int
		want    string
	}{
		{name: "refused, alone", own: refused, want: "down"},
		{name: "refused, all agree", own: refused, others: map[ring.ID]ring.Evidence{2: refused, 3: silent}, want: "down"},
		{name: "refused, one of two agrees", own: refused, others: map[ring.ID]ring.Evidence{2: refused, 3: alive}},
		{name: "refused, two of three agree", own: refused, others: map[ring.ID]ring.Evidence{2: refused, 3: alive, 4: refused}, want: "down"},
		{name: "refused, the other one sees it alive", own: refused, others: map[ring.ID]ring.Evidence{2: alive}},
		{name: "refused, who contradicts is down", own: refused, others: map[ring.ID]ring.Evidence{2: alive}, downs: []ring.ID{2}, want: "down"},
		{name: "refused, who knows nothing has no say", own: refused, others: map[ring.ID]ring.Evidence{2: unknown, 3: refused}, want: "down"},
		{name: "own link alive, all others refused", own: alive, others: map[ring.ID]ring.Evidence{2: refused, 3: refused, 4: refused}},
		{name: "own link unknown", own: unknown, others: map[ring.ID]ring.Evidence{2: refused, 3: refused}},
		{name: "down already", own: refused, victim: true},
		{name: "evidence of an earlier start", own: old},
		{name: "evidence of an earlier start that stays", own: old, settled: true, want: "down"},
		{name: "hello never seen", own: never},
		{name: "hello never seen, for long", own: never, settled: true, want: "down"},
		{name: "evidence of a later start", own: newer, settled: true},
		{name: "other's evidence of an earlier start does not agree", own: refused, others: map[ring.ID]ring.Evidence{2: old}},
		{name: "another process, for a moment", own: other, settled: true},
		{name: "another process, for long", own: other, settled: true, old: true, want: "down"},
		{name: "another process, others agree", own: other, others: map[ring.ID]ring.Evidence{2: other, 3: silent}, old: true, want: "down"},
		{name: "another process, others know it", own: other, others: map[ring.ID]ring.Evidence{2: alive, 3: alive}, old: true},
		{name: "another process, admitted by now", own: admitted, old: true},
		{name: "silent within the budget", own: silent, budget: 1, want: "down"},
		{name: "silent beyond the budget", own: silent, want: "held"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			c := court{self: 1, own: map[ring.ID]ring.Evidence{9: tc.own}, others: map[ring.ID]observer{}, silentBudget: tc.budget}
			for _, id := range []ring.ID{1, 2, 3, 4} {
				c.servers = append(c.servers, subject{id: id, incarnation: 7, up: !slices.Contains(tc.downs, id), settled: true})
			}
			c.servers = append(c.servers, subject{id: 9, incarnation: 50, up: !tc.victim, settled: tc.settled, replaced: tc.old})
			for id, e := range tc.others {
				c.others[id] = observer{links: map[ring.ID]ring.Evidence{9: e}}
			}
			down, held := judge(c)
			got := ""
			switch {
			case len(down) == 1 && len(held) == 0 && down[0].id == 9 && down[0].incarnation == 50:
				got = "down"
			case len(held) == 1 && len(down) == 0 && held[0].id == 9:
				got = "held"
			case len(down)+len(held) > 0:
				t.Fatalf("down %v, held %v", down, held)
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestBudgets proves the limits on verdicts for silence and on flapping.
func TestBudgets(t *testing.T) {
	t0 := time.Unix(1000, 0)
	for _, tc := range []struct {
		n, past, want int
	}{{3, 0, 1}, {3, 1, 0}, {8, 1, 1}, {100, 5, 20}} {
		past := make([]time.Time, tc.past)
		for i := range past {
			past[i] = t0
		}
		if got, _ := silentBudgetOf(tc.n, past, t0.Add(9*time.Second)); got != tc.want {
			t.Errorf("%d servers, %d verdicts: %d left, want %d", tc.n, tc.past, got, tc.want)
		}
		if got, left := silentBudgetOf(tc.n, past, t0.Add(10*time.Second)); got != max(1, tc.n/4) || len(left) != 0 {
			t.Errorf("%d servers after the window: %d left, %d remembered", tc.n, got, len(left))
		}
	}
	for downs, want := range []time.Duration{0, 0, time.Second, 2 * time.Second, 4 * time.Second} {
		past := make([]time.Time, downs)
		for i := range past {
			past[i] = t0
		}
		if got, _ := upBackoff(past, t0.Add(time.Minute), time.Minute); got != want {
			t.Errorf("%d downs: wait %v, want %v", downs, got, want)
		}
		if got, left := upBackoff(past, t0.Add(10*time.Minute), time.Minute); got != 0 || len(left) != 0 {
			t.Errorf("%d downs long ago: wait %v, %d remembered", downs, got, len(left))
		}
	}
	if got, _ := upBackoff(make([]time.Time, 30), time.Time{}, time.Minute); got != time.Minute {
		t.Errorf("30 downs: wait %v, want the limit", got)
	}
}

// TestDecideStart proves what a server without state does on which answers.
func TestDecideStart(t *testing.T) {
	m := func(id ring.ID) Member { return Member{ID: id, Addr: string(rune('a'+id-1)) + ":8020"} }
	voters := []Member{m(1), m(2), m(3)}
	empty := func(id ring.ID) answer {
		return answer{member: m(id), ok: true, probeAnswer: probeAnswer{Empty: true, Digest: "d"}}
	}
	with := func(a answer, change func(*probeAnswer)) answer {
		change(&a.probeAnswer)
		return a
	}
	alone := func(a *probeAnswer) { a.Bootstrap = true }
	runs := func(a *probeAnswer) { a.RaftID = "x" }
	other := answer{member: m(2), ok: true, probeAnswer: probeAnswer{Empty: true, Digest: "e"}}
	inRing := answer{member: m(3), ok: true, probeAnswer: probeAnswer{RingID: 5, Digest: "e"}}
	first := newcomer{self: 1, digest: "d", voters: voters}
	is := func(change func(*newcomer)) newcomer {
		n := first
		change(&n)
		return n
	}
	bootstrap := is(func(n *newcomer) { n.bootstrap, n.looked = true, true })
	silent := []answer{{member: m(2)}, {member: m(3)}}
	differs := "; b:8020 has another configuration (group, servers or ring parameters differ from ours)"
	waits := func(why string) startDecision { return startDecision{why: why} }
	tests := []struct {
		name    string
		who     newcomer
		answers []answer
		want    startDecision
	}{
		{"nobody answers", first, silent, waits("waiting for 2 of 3 servers: b:8020, c:8020 (1 of them will do)")},
		{"a majority is empty", first, []answer{empty(2), {member: m(3)}}, startDecision{kind: startBootstrap}},
		{"all are empty", is(func(n *newcomer) { n.self = 2 }), []answer{empty(1), empty(3)}, startDecision{kind: startBootstrap}},
		{"another digest", first, []answer{other, {member: m(3)}},
			waits("waiting for 2 of 3 servers: b:8020, c:8020 (1 of them will do)" + differs)},
		{"a majority beside another digest", first, []answer{other, empty(3)}, startDecision{kind: startBootstrap}},
		{"one has a ring", first, []answer{empty(2), inRing}, startDecision{kind: startJoin, why: "the ring that c:8020 belongs to"}},
		{"not a first voter", is(func(n *newcomer) { n.self = 4 }), []answer{empty(1), empty(2), empty(3)},
			waits("waiting for a ring to join: it is started by a:8020, b:8020, c:8020")},
		{"the only first voter", is(func(n *newcomer) { n.voters = voters[:1] }), silent[:1], startDecision{kind: startBootstrap}},
		{"the second of two", is(func(n *newcomer) { n.self, n.voters = 2, voters[:1] }), []answer{empty(1)},
			waits("waiting for a ring to join: it is started by a:8020")},
		{"another group", first, []answer{{member: m(2), refused: true}, {member: m(3)}},
			waits("waiting for 2 of 3 servers: b:8020, c:8020 (1 of them will do)" + differs)},

		{"who had a ring is silent now", is(func(n *newcomer) { n.voters, n.seen = voters[:1], "b:8020" }), silent,
			waits("waiting for the ring that b:8020 belongs to, which does not answer any more")},
		{"who had a ring is silent, another one has it", is(func(n *newcomer) { n.seen = "b:8020" }), []answer{{member: m(2)}, inRing},
			startDecision{kind: startJoin, why: "the ring that c:8020 belongs to"}},

		{"bootstrap, nobody answers", bootstrap, silent, startDecision{kind: startAlone}},
		{"bootstrap, the others are empty", bootstrap, []answer{empty(2), empty(3)}, startDecision{kind: startAlone}},
		{"bootstrap, not a first voter", is(func(n *newcomer) { n.self, n.bootstrap, n.looked = 4, true, true }), []answer{empty(1)}, startDecision{kind: startAlone}},
		{"bootstrap, somebody has a ring", bootstrap, []answer{empty(2), inRing}, startDecision{kind: startJoin, why: "the ring that c:8020 belongs to"}},
		{"bootstrap, the others may not know yet", is(func(n *newcomer) { n.bootstrap = true }), silent,
			waits("looking for a ring of this group before one is started here (--bootstrap)")},
		{"bootstrap, others have begun together", bootstrap, []answer{with(empty(2), runs), empty(3)}, startDecision{kind: startBootstrap}},
		{"bootstrap here and at a later one", bootstrap, []answer{with(empty(2), alone)}, startDecision{kind: startAlone}},
		{"bootstrap here and at an earlier one", is(func(n *newcomer) { n.self, n.bootstrap, n.looked = 3, true, true }), []answer{with(empty(2), alone)},
			waits("waiting for the ring that b:8020 starts with --bootstrap")},
		{"another one bootstraps", first, []answer{with(empty(2), alone), empty(3)},
			waits("waiting for the ring that b:8020 starts with --bootstrap")},
		{"another one bootstraps, its raft runs", first, []answer{with(with(empty(2), alone), runs), empty(3)},
			waits("waiting for the ring that b:8020 starts with --bootstrap")},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := decideStart(tc.who, tc.answers); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestVoters proves that the number of voters is odd and within bounds.
func TestVoters(t *testing.T) {
	want := []int{1, 1, 1, 3, 3, 5, 5, 5}
	for n, w := range want {
		if got := votersFor(n, 5); got != w {
			t.Errorf("%d servers: %d voters, want %d", n, got, w)
		}
	}
}

// viewOf returns the state after a ring of one server, boot 7, with these
// entries after RingInit and ServerUp.
func viewOf(t *testing.T, bodies ...fsm.Body) fsm.View {
	t.Helper()
	s := fsm.New()
	init := fsm.RingInit{RingID: 1, Era: 1, Group: "g", Params: fsm.Params{
		Slots: 8, DeliverMode: "hash", Placement: "slots", AutoMerge: true, DoMerge: true, MaxVoters: 5}}
	for i, b := range append([]fsm.Body{init}, bodies...) {
		res, err := s.Apply(uint64(i+1), fsm.Command{Body: b})
		if err != nil || res.Err != nil {
			t.Fatalf("entry %d: %v, %v", i+1, err, res.Err)
		}
	}
	return s.View()
}

// TestNextReport proves what a server proposes in which state.
func TestNextReport(t *testing.T) {
	id := ring.Identity{Name: "a", CtlPort: 1}
	up := fsm.ServerUp{ID: 1, Server: id, Addr: "a:1", Boot: 7, Suspend: true}
	withProgram := up
	withProgram.Suspend = false
	me := wanted{self: 1, member: Member{ID: 1, Identity: id, Addr: "a:1"}, boot: 7, upAllowed: true}
	with := func(change func(*wanted)) wanted {
		w := me
		change(&w)
		return w
	}
	tests := []struct {
		name string
		view fsm.View
		w    wanted
		want fsm.Body
	}{
		{"no ring yet", fsm.View{}, me, nil},
		{"not a member yet", viewOf(t), me, up},
		{"not a member yet, with a program", viewOf(t), with(func(w *wanted) { w.programs = 1 }), withProgram},
		{"another start is UP", viewOf(t, up), with(func(w *wanted) { w.boot = 8 }),
			fsm.ServerUp{ID: 1, Server: id, Addr: "a:1", Boot: 8, Suspend: true}},
		{"declared DOWN", viewOf(t, up, fsm.NodeDown{ID: 1, Incarnation: 2}), me, up},
		{"declared DOWN, back-off", viewOf(t, up, fsm.NodeDown{ID: 1, Incarnation: 2}), with(func(w *wanted) { w.upAllowed = false }), nil},
		{"leaving", viewOf(t, up, fsm.NodeDown{ID: 1, Incarnation: 2}), with(func(w *wanted) { w.leaving = true }), nil},
		{"as it should be", viewOf(t, up), with(func(w *wanted) { w.graceOver = true }), nil},
		{"a program came", viewOf(t, up), with(func(w *wanted) { w.programs = 2 }), fsm.ProgramsChanged{ID: 1, Incarnation: 2, Count: 2}},
		{"the last program went, grace", viewOf(t, withProgram), me, nil},
		{"the last program went", viewOf(t, withProgram), with(func(w *wanted) { w.graceOver = true }),
			fsm.ProgramsChanged{ID: 1, Incarnation: 2}},
		{"a program came after the ring may have been told that there is none", viewOf(t, withProgram),
			with(func(w *wanted) { w.unsettled, w.programs = true, 1 }), fsm.ProgramsChanged{ID: 1, Incarnation: 2, Count: 1}},
		{"it came and went, grace", viewOf(t, withProgram), with(func(w *wanted) { w.unsettled = true }), nil},
		{"none came", viewOf(t, up), with(func(w *wanted) { w.unsettled, w.graceOver = true, true }), fsm.ProgramsChanged{ID: 1, Incarnation: 2}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, nextReport(tc.view, tc.w)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTransferReports proves when a transfer report is proposed, and when it is
// dropped.
func TestTransferReports(t *testing.T) {
	m := &ring.Merge{ID: 10, Phase: ring.MergeSealed, Seal: 20, Transfers: []ring.Transfer{{Donor: 1, Receiver: 2}, {Donor: 1, Receiver: 3, Ready: true, Final: true}}}
	ready := transferReport{mergeID: 10, donor: 1, receiver: 2}
	final := transferReport{mergeID: 10, seal: 20, donor: 1, receiver: 2}
	tests := []struct {
		name string
		r    transferReport
		m    *ring.Merge
		at   uint64
		want fsm.Body
		over bool
	}{
		{"ready", ready, m, 30, fsm.TransferReady{MergeID: 10, Donor: 1, Receiver: 2}, false},
		{"final", final, m, 30, fsm.TransferFinal{MergeID: 10, Seal: 20, Donor: 1, Receiver: 2}, false},
		{"ready is known", transferReport{mergeID: 10, donor: 1, receiver: 3}, m, 30, nil, false},
		{"final is known", transferReport{mergeID: 10, seal: 20, donor: 1, receiver: 3}, m, 30, nil, false},
		{"an earlier seal", transferReport{mergeID: 10, seal: 15, donor: 1, receiver: 2}, m, 30, nil, true},
		{"a seal not applied here yet", transferReport{mergeID: 10, seal: 40, donor: 1, receiver: 2}, m, 30, nil, false},
		{"another merge", transferReport{mergeID: 5, donor: 1, receiver: 2}, m, 30, nil, true},
		{"no merge", final, nil, 30, nil, true},
		{"no such transfer", transferReport{mergeID: 10, donor: 8, receiver: 2}, m, 30, nil, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.r.body(tc.m)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := tc.r.over(fsm.View{Index: tc.at, Merge: tc.m}); got != tc.over {
				t.Errorf("over: got %v, want %v", got, tc.over)
			}
		})
	}
}

// TestMayPropose proves that nodes speak of themselves only, and slaves of
// nothing else.
func TestMayPropose(t *testing.T) {
	server, slave := &request{From: 1}, &request{From: 1, Slave: true}
	tests := []struct {
		req  *request
		body fsm.Body
		want bool
	}{
		{server, fsm.ServerUp{ID: 1}, true},
		{server, fsm.ServerUp{ID: 2}, false},
		{server, fsm.NodeDown{ID: 1}, true},
		{server, fsm.NodeDown{ID: 2}, false},
		{server, fsm.ProgramsChanged{ID: 1}, true},
		{server, fsm.TransferFinal{Donor: 1, Receiver: 2}, true},
		{server, fsm.TransferReady{Donor: 2, Receiver: 3}, false},
		{server, fsm.RingInit{}, false},
		{server, fsm.SlaveUp{ID: 1}, false},
		{slave, fsm.SlaveDown{ID: 1}, true},
		{slave, fsm.SlaveDown{ID: 2}, false},
		{slave, fsm.ServerUp{ID: 1}, false},
	}
	for _, tc := range tests {
		if got := mayPropose(tc.req, tc.body); got != tc.want {
			t.Errorf("slave %t, %s %+v: got %t", tc.req.Slave, tc.body.Type(), tc.body, got)
		}
	}
}

// FuzzReadFrame proves that no bytes make the reader of requests panic or take
// memory beyond its limit, and that what it accepts survives a round trip.
func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := writeFrame(&b, &request{Op: opProbe, Group: "g", From: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{2, 0, 0, 0, '{', '}'})
	f.Fuzz(func(t *testing.T, in []byte) {
		var req, again request
		if readFrame(bytes.NewReader(in), &req) != nil {
			return
		}
		var b bytes.Buffer
		if err := writeFrame(&b, &req); err != nil {
			t.Fatalf("write what was read: %v", err)
		}
		if err := readFrame(&b, &again); err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		if _, err := b.ReadByte(); err != io.EOF {
			t.Error("bytes are left")
		}
	})
}
