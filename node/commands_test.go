package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/config"
	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/controlplane/ctlport"
	"github.com/chmpx/chmpx/fsm"
	"github.com/chmpx/chmpx/ring"
)

var update = flag.Bool("update", false, "write docs/control-commands.md anew")

// operated is a state machine with servers a, b, c, ..., as operators see it.
type operated struct {
	t *testing.T
	*fsm.State
	index uint64
}

func idOf(name string) ring.ID { return ring.ID(name[0]) }

// apply applies a body as the next entry.
func (o *operated) apply(body fsm.Body) error {
	o.t.Helper()
	o.index++
	if _, ok := body.(fsm.MergeRequest); ok {
		body = fsm.RequestMerge(o.View()) // as the leader does
	}
	res, err := o.Apply(o.index, fsm.Command{TimeUs: 1, Body: body})
	if err != nil {
		o.t.Fatal(err)
	}
	return res.Err
}

// do applies what must not be refused.
func (o *operated) do(bodies ...fsm.Body) {
	o.t.Helper()
	for _, body := range bodies {
		if err := o.apply(body); err != nil {
			o.t.Fatalf("%s %+v: %v", body.Type(), body, err)
		}
	}
}

func (o *operated) status(name string) ring.Status {
	if s := o.View().Server(idOf(name)); s != nil {
		return s.Status
	}
	return 0
}

func (o *operated) up(name string) {
	o.t.Helper()
	o.do(fsm.ServerUp{ID: idOf(name), Server: ring.Identity{Name: name, CtlPort: 8021}, Addr: name + ":8020", Boot: o.index + 1000, Suspend: true})
}

func (o *operated) programs(name string, n int) {
	o.t.Helper()
	o.do(fsm.ProgramsChanged{ID: idOf(name), Incarnation: o.View().Server(idOf(name)).Incarnation, Count: n})
}

func (o *operated) down(name string) {
	o.t.Helper()
	o.do(fsm.NodeDown{ID: idOf(name), Incarnation: o.View().Server(idOf(name)).Incarnation})
}

// ready reports every transfer of the merge as ready.
func (o *operated) ready() {
	o.t.Helper()
	m := o.View().Merge
	for _, x := range m.Transfers {
		o.do(fsm.TransferReady{MergeID: m.ID, Donor: x.Donor, Receiver: x.Receiver})
	}
}

// join brings a server with a program to ADD.
func (o *operated) join(name string) {
	o.t.Helper()
	o.up(name)
	o.programs(name, 1)
	o.do(fsm.ServiceIn{ID: idOf(name)})
}

// merge merges to the end.
func (o *operated) merge() {
	o.t.Helper()
	o.do(fsm.MergeRequest{})
	o.ready()
	o.do(fsm.MergeComplete{})
	m := o.View().Merge
	for _, x := range m.Transfers {
		o.do(fsm.TransferFinal{MergeID: m.ID, Seal: m.Seal, Donor: x.Donor, Receiver: x.Receiver})
	}
	o.do(fsm.MergeCommit{MergeID: m.ID})
}

// operatedRing is a ring with AUTOMERGE off and these servers in service.
func operatedRing(t *testing.T, replica int, names ...string) *operated {
	t.Helper()
	o := &operated{t: t, State: fsm.New()}
	o.do(fsm.RingInit{RingID: 1, Era: 1, Group: "G", Params: fsm.Params{
		Slots: 6, Replica: replica, DeliverMode: "hash", Placement: "slots", DoMerge: true, MaxVoters: 5,
	}})
	for _, name := range names {
		o.join(name)
	}
	o.merge()
	return o
}

// start is a status of server a that commands find.
type start struct {
	about   string
	replica int
	servers string // in service before events
	events  func(o *operated)
}

func starts() []start {
	none := func(*operated) {}
	leaving := func(o *operated) { o.do(fsm.ServiceOut{ID: idOf("a")}) }
	request := func(o *operated) { o.do(fsm.MergeRequest{}) }
	then := func(steps ...func(o *operated)) func(o *operated) {
		return func(o *operated) {
			for _, step := range steps {
				step(o)
			}
		}
	}
	joining := func(o *operated) { o.join("a") }
	ready := func(o *operated) { o.ready() }
	down := func(o *operated) { o.down("a") }
	leaves := func(o *operated) { o.programs("a", 0) }
	newServer := func(o *operated) { o.join("d") }
	return []start{
		{"configured, and never a member of the ring", 1, "bc", none},
		{"out of service", 1, "bc", func(o *operated) { o.up("a"); o.programs("a", 1) }},
		{"out of service, no program is attached", 1, "bc", func(o *operated) { o.up("a") }},
		{"out of service and down", 1, "bc", func(o *operated) { o.up("a"); o.down("a") }},
		{"in service", 1, "abc", none},
		{"in service, no program is attached", 1, "abc", leaves},
		{"in service, no program is attached, and another server leaves", 1, "abc", then(leaves, func(o *operated) { o.do(fsm.ServiceOut{ID: idOf("b")}) })},
		{"in service and lacks data: it was down", 1, "abc", then(down, func(o *operated) { o.up("a"); o.programs("a", 1) })},
		{"in service and down", 1, "abc", down},
		{"in service, a merge to a new server copies", 1, "abc", then(newServer, request)},
		{"in service, a merge to a new server has copied", 1, "abc", then(newServer, request, ready)},
		{"in service, a merge to a new server is being completed", 1, "abc", then(newServer, request, ready, func(o *operated) { o.do(fsm.MergeComplete{}) })},
		{"being added", 1, "bc", joining},
		{"being added, its program has left", 1, "bc", then(joining, leaves)},
		{"being added, a merge copies", 1, "bc", then(joining, request)},
		{"being added, a merge has copied", 1, "bc", then(joining, request, ready)},
		{"leaving", 1, "abc", leaving},
		{"leaving, no program is attached", 1, "abc", then(leaving, leaves)},
		{"leaving, a merge copies", 1, "abc", then(leaving, request)},
		{"leaving, a merge has copied", 1, "abc", then(leaving, request, ready)},
		{"leaving and down", 1, "abc", then(leaving, down)},
		{"leaving and down, a merge copies", 1, "abc", then(leaving, down, request)},
		{"leaving and down, and it alone has its data (REPLICA = 0)", 0, "abc", then(leaving, down)},
		{"leaving, no program is attached, and it alone has its data (REPLICA = 0)", 0, "abc", then(leaves, leaving)},
		{"leaving and down, it alone has its data (REPLICA = 0), and a merge waits for it", 0, "abc", then(leaving, down, request)},
		{"leaving, no program is attached, it alone has its data (REPLICA = 0), and a merge waits for it", 0, "abc", then(leaves, leaving, request)},
		{"the only server", 1, "a", none},
		{"the only server, being added", 1, "", joining},
		{"the only server in service, another is out", 1, "a", func(o *operated) { o.up("b"); o.programs("b", 1) }},
	}
}

// operatorCommands are the commands that have an entry.
var operatorCommands = []string{"SERVICEIN", "SERVICEOUT", "MERGE", "COMPMERGE", "COMPMERGE FORCE", "ABORTMERGE", "SUSPENDMERGE", "NOSUSPENDMERGE",
	"NODERESTART a", "NODEREPLACE a e", "NODEREPLACE b a", "NODEFORGET a"}

// begin returns the ring in which a start is found.
func (s start) begin(t *testing.T) *operated {
	t.Helper()
	if s.servers == "" {
		o := &operated{t: t, State: fsm.New()}
		o.do(fsm.RingInit{RingID: 1, Era: 1, Group: "G", Params: fsm.Params{
			Slots: 6, Replica: s.replica, DeliverMode: "hash", Placement: "slots", DoMerge: true, MaxVoters: 5,
		}})
		s.events(o)
		return o
	}
	o := operatedRing(t, s.replica, strings.Split(s.servers, "")...)
	s.events(o)
	return o
}

// shown is a status in a table.
func shown(st ring.Status) string {
	if st == 0 {
		return "no member"
	}
	return "`" + strings.TrimPrefix(st.String(), "SAFE -> ") + "`"
}

// answer runs a command about server a, or those that it names, at a itself except
// for SERVICEOUT, and returns the whole reply.
func (o *operated) answer(command string) string {
	o.t.Helper()
	before := o.View()
	name, more, _ := strings.Cut(command, " ")
	what, about, by := ctlport.Change{Name: name, Force: more == "FORCE", Hold: 30 * time.Second}, idOf("a"), ring.ID(0)
	if strings.HasPrefix(name, "NODE") {
		old, with, _ := strings.Cut(more, " ")
		if about = idOf(old); with != "" {
			by = idOf(with)
		}
	}
	err := o.apply(bodyOf(what, about, by))
	if err != nil {
		if after := o.View(); before.Table != after.Table || before.Merge != after.Merge || before.SuspendMerge != after.SuspendMerge {
			o.t.Errorf("%s was refused and changed something", command)
		}
		err = fmt.Errorf("%w: %w", controlplane.ErrRefused, err)
	}
	out := outcomeOf(name, err, name != "SERVICEOUT")
	if out.Verdict == ctlport.Done && alone(o.View().Table, idOf("a")) {
		out.Verdict = ctlport.DoneAlone
	}
	return out.Reply(name)
}

const commandsHead = `# Every command, every status

What the control port answers, by the status of a server *a*, and its status right
after: SERVICEIN is sent to *a*, SERVICEOUT is sent for *a* to another server, the others
to any; of those that begin with NODE, which CHMPX has not, *e* is configured and was
never a member, and after NODEFORGET the leader removes *a* from the list. Made by a test of package node that runs each of them; in rings of three
servers with REPLICA = 1 unless said otherwise, and AUTOMERGE off: with it the merge
goes on by itself from there. What the commands do is in [control.md](control.md).

COMPMERGE FORCE is listed where it does something else than COMPMERGE.
SUSPENDMERGE, NOSUSPENDMERGE and UPDATESTATUS answer SUCCEED in every status (UPDATESTATUS on
the only server of a ring: SUCCEED: There no server on RING.) and leave it as it is.
VERSION, SELFSTATUS, ALLSTATUS and DUMP show what there is in every status and change nothing.
`

// document is docs/control-commands.md.
func document(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(commandsHead)
	for _, s := range starts() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| command | reply | status after it |\n|---|---|---|\n",
			strings.ToUpper(s.about[:1])+s.about[1:], shown(s.begin(t).status("a")))
		complete := ""
		for _, command := range operatorCommands {
			o := s.begin(t)
			before := o.status("a")
			reply := o.answer(command)
			after := o.status("a")
			if strings.HasSuffix(command, "SUSPENDMERGE") {
				if reply != "SUCCEED\n" || after != before || o.View().SuspendMerge != (command == "SUSPENDMERGE") {
					t.Errorf("%s, %s: %q, %v after %v", s.about, command, reply, after, before)
				}
				continue
			}
			status := "same"
			if after != before {
				status = shown(after)
			}
			if command == "COMPMERGE" {
				complete = reply + status
			} else if command == "COMPMERGE FORCE" && reply+status == complete {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", command, strings.ReplaceAll(strings.TrimSpace(reply), "\nREASON: ", "<br>REASON: "), status)
		}
	}
	b.WriteString("\n## Slaves\n\n| command | reply |\n|---|---|\n")
	slave := ctlport.Answers{Slave: true, Change: func(context.Context, ctlport.Change) ctlport.Outcome { return ctlport.Outcome{} }}
	for _, command := range append(slices.Clone(operatorCommands), "UPDATESTATUS") {
		reply := "as a server" // a slave hands it on
		if command != "SERVICEOUT" {
			reply = strings.TrimSpace(slave.Answer(t.Context(), ctlport.ParseCommand([]byte(command)), 1))
		}
		fmt.Fprintf(&b, "| %s | %s |\n", command, reply)
	}
	traceTable(t, &b)
	return b.String()
}

// traceTable is what TRACE and TRACEVIEW answer a node that has seen no message.
func traceTable(t *testing.T, b *strings.Builder) {
	t.Helper()
	b.WriteString("\n## TRACE and TRACEVIEW\n\nOf servers and slaves, MAXHISTLOG = 100, before there was a message.\n\n" +
		"| command | reply while it is off | then it is | reply while it is on | then it is |\n|---|---|---|---|---|\n")
	words := map[bool]string{true: "on", false: "off"}
	for _, command := range []string{"TRACE ENABLE", "TRACE DISABLE", "TRACE", "TRACE OTHER", "TRACEVIEW", "TRACEVIEW DIR=IN DEV=SOCK 100", "TRACEVIEW dir=in", "TRACEVIEW 101"} {
		fmt.Fprintf(b, "| %s |", command)
		for _, on := range []bool{false, true} {
			after := on
			a := ctlport.Answers{Trace: ctlport.Tracing{Max: func() int { return 100 }, View: func() []ctlport.Trace { return nil }, Set: func(to bool) bool {
				changed := after != to
				after = to
				return changed
			}}}
			reply := a.Answer(t.Context(), ctlport.ParseCommand([]byte(command)), 1)
			if strings.HasPrefix(reply, "ERROR") && after != on {
				t.Errorf("%s was refused and changed something", command)
			}
			fmt.Fprintf(b, " %s | %s |", strings.TrimSpace(reply), words[after])
		}
		b.WriteByte('\n')
	}
}

// TestControlCommands proves the table of docs/control-commands.md: each
// command in each status, its reply, and the status after it.
func TestControlCommands(t *testing.T) {
	file := filepath.Join("..", "docs", "control-commands.md")
	got := document(t)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the commands do (-update writes it); they do:\n%s", file, got)
	}
}

// TestOutcome proves what is answered when the ring did not answer: that it may
// have happened, if so, and that nothing else is called done.
func TestOutcome(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("%w: no quorum: missing b:8022", controlplane.ErrNoLeader), "ERROR: Failed to start merging.\nREASON: no leader: no quorum: missing b:8022\n"},
		{fmt.Errorf("%w: no quorum: missing b:8022", controlplane.ErrUncertain), "ERROR: Failed to start merging.\nREASON: the change may have happened: no quorum: missing b:8022\n"},
		{fmt.Errorf("%w: %w", controlplane.ErrUncertain, fsm.ErrAlreadyOut), "ERROR: Failed to start merging.\nREASON: the change may have happened: fsm: the server is out of service already\n"},
		{context.DeadlineExceeded, "ERROR: Failed to start merging.\nREASON: context deadline exceeded\n"},
		{fmt.Errorf("%w: %w", controlplane.ErrRefused, fsm.ErrOperating), "ERROR: Could not change status, because some servers could not be changed its status now.\nREASON: a merge is running\n"},
		{
			fmt.Errorf("%w: %w", controlplane.ErrRefused, &controlplane.LevelError{Command: "X", Needs: 2, Has: 1, Lack: []string{"b:8022 (level 1)"}}),
			"ERROR: Failed to start merging.\nREASON: feature levels do not go together: X needs level 2 and the ring has 1; upgrade and start again, or forget (chmpxctl node forget) what is gone for good: b:8022 (level 1)\n",
		},
	} {
		if got := outcomeOf("MERGE", tc.err, true).Reply("MERGE"); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, got, tc.want)
		}
	}
}

// TestDirectory proves by what names and addresses a server is found, and that
// a resolver that does not answer costs a bounded time.
func TestDirectory(t *testing.T) {
	addr := netip.MustParseAddr
	hosts := map[string][]netip.Addr{
		"a": {addr("192.0.2.1")}, "a.example": {addr("192.0.2.1")}, "b": {addr("192.0.2.2"), addr("2001:db8::2")},
		"192.0.2.1": {addr("192.0.2.1")}, "2001:db8::2": {addr("2001:db8::2")}, "localhost": {addr("127.0.0.1")},
		"both": {addr("192.0.2.1"), addr("192.0.2.2")}, "elsewhere": {addr("192.0.2.9")},
	}
	d := &directory{
		group: "G", table: func() *ring.Table { return nil },
		servers: func() []config.Server {
			return []config.Server{{Name: "a", Port: 8020, CtlPort: 8021}, {Name: "b", Port: 8020, CtlPort: 8021}, {Name: "b", Port: 8030, CtlPort: 8031}}
		},
		lookup: func(_ context.Context, host string) []netip.Addr { return hosts[host] },
	}
	id := func(i int) ring.ID { return member(d.group, d.idType, d.servers()[i]).ID }
	d.self = id(0)
	tests := []struct {
		host string
		port uint16
		want ring.ID // 0: nobody
	}{
		{"a", 8021, id(0)},
		{"A", 8021, id(0)},
		{"a.example", 8021, id(0)},
		{"192.0.2.1", 8021, id(0)},
		{"2001:db8::2", 8021, id(1)},
		{"2001:db8::2", 8031, id(2)},
		{"localhost", 8021, id(0)}, // this node
		{"localhost", 8031, 0},     // on this host there is none
		{"b", 8031, id(2)},
		{"", 8031, id(2)},
		{"", 8021, 0}, // two have it
		{"", 8041, 0},
		{"a", 0, id(0)},
		{"192.0.2.1", 0, id(0)},
		{"localhost", 0, id(0)},
		{"b", 0, 0}, // two have it
		{"nowhere", 0, 0},
		{"a", 8031, 0},
		{"both", 8021, 0},
		{"elsewhere", 8021, 0},
		{"nowhere", 8021, 0},
	}
	for _, tc := range tests {
		got, err := d.find(t.Context(), ctlport.ServerRef{Host: tc.host, CtlPort: tc.port})
		if got != tc.want || (err == nil) != (tc.want != 0) {
			t.Errorf("%s:%d is %v (%v), want %v", tc.host, tc.port, got, err, tc.want)
		}
	}
	member := member(d.group, d.idType, d.servers()[1])
	table, err := ring.NewTable(ring.Table{Group: "G", Servers: []ring.Server{
		{ID: member.ID, Identity: member.Identity, Addr: "b:8020", Status: ring.ServiceOut},
		{ID: 77, Number: 1, Identity: ring.Identity{Name: "gone", CtlPort: 8021}, Addr: "gone:8020", Status: ring.ServiceOut},
	}})
	if err != nil {
		t.Fatal(err)
	}
	d.table = func() *ring.Table { return table }
	for host, want := range map[string]ring.ID{"gone": 77, "b": id(1), "a": id(0)} {
		if got, err := d.find(t.Context(), ctlport.ServerRef{Host: host, CtlPort: 8021}); got != want {
			t.Errorf("%s in the ring and the configuration: %v (%v), want %v", host, got, err, want)
		}
	}
}

// TestDirectoryIsBounded proves that a resolver that does not answer ends with
// the time for it, and a caller's context ends it before.
func TestDirectoryIsBounded(t *testing.T) {
	d := &directory{
		group: "G", table: func() *ring.Table { return nil }, servers: func() []config.Server { return []config.Server{{Name: "a", Port: 8020, CtlPort: 8021}} },
		lookup: func(ctx context.Context, _ string) []netip.Addr { <-ctx.Done(); return nil },
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{ctx, t.Context()} {
		if _, err := d.find(ctx, ctlport.ServerRef{Host: "x", CtlPort: 8021}); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// TestLookupHost proves that the system's resolver is asked, and that addresses
// compare whatever form they come in.
func TestLookupHost(t *testing.T) {
	for host, want := range map[string]string{"127.0.0.1": "127.0.0.1", "::ffff:192.0.2.1": "192.0.2.1", "::1": "::1"} {
		if got := lookupHost(t.Context(), host); len(got) != 1 || got[0] != netip.MustParseAddr(want) {
			t.Errorf("%s: %v", host, got)
		}
	}
	if !isHere(netip.MustParseAddr("127.0.0.1")) || isHere(netip.MustParseAddr("192.0.2.1")) {
		t.Error("what is here is not told from what is elsewhere")
	}
}

// TestBusy proves that no more commands wait for the ring than leave room to
// those who only look, and that the next one is told so at once.
func TestBusy(t *testing.T) {
	c := &commands{asking: make(chan struct{}, askingMax)}
	for range askingMax {
		if err := c.begin(); err != nil {
			t.Fatal(err)
		}
	}
	want := "ERROR: Failed to start merging.\nREASON: 32 commands wait for the ring at this node already; nothing was done\n"
	if got := c.change(t.Context(), ctlport.Change{Name: "MERGE"}).Reply("MERGE"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := c.consistent(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("a read: %v", err)
	}
	c.end()
	if err := c.begin(); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}
