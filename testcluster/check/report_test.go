package check

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/internal/fault"
	"github.com/chmpx/chmpx/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lostAndRepeated is a round in which a message is lost, and another one is
// taken again without mark, with the traces of two nodes.
func lostAndRepeated(t *testing.T) Round {
	s := newScene()
	s.send(10, 1)
	s.send(20, 2)
	s.add("r1", 24, Taken, 2)
	s.add("r2", 400, Taken, 2)
	s.end("s1", 30, true)
	s.start("s1", 200)
	s.Faults = []Fault{
		{AtNs: 30 * msec, UntilNs: 200 * msec, Kind: "kill-node", Target: []string{"s1"}, Detail: "SIGKILL"},
		{AtNs: 9000 * msec, UntilNs: 9500 * msec, Kind: "cut", Target: []string{"s1", "s2"}},
	}
	for i, n := range []string{"s1", "s2", "s3"} {
		s.observe(int64(5+i), n, 10, 10, "up:1 up:2 up:3")
	}
	s.observe(8, "c1", 10, 10, "up:1 up:2 up:3")
	s.observe(150, "s2", 11, 11, "down:1 up:2 up:3")
	session := [16]byte(sessionOf("p"))
	frame := func(at int64, what fault.What, to wire.Type, peer string, seq, hash uint64) fault.Event {
		return fault.Event{AtNs: at * msec, What: what, Type: uint8(to), Peer: uint64(idOf(peer)), Session: session, Seq: seq, Hash: hash,
			Attempt: 1, Era: 1, Index: 10, Incarnation: 1}
	}
	s.Traces = map[string]string{
		"s1": traceFile(t, []fault.Event{
			frame(22, fault.FrameReceived, wire.TypeMessage, "c1", 2, 7),
			frame(23, fault.Delivered, 0, "c1", 2, 7),
			frame(25, fault.Taken, 0, "c1", 2, 7),
			frame(26, fault.FrameSent, wire.TypeAck, "c1", 1, 2), // settles 2
			frame(27, fault.FrameSent, wire.TypeAck, "c1", 3, 1), // another one
		}),
		"s3": filepath.Join(t.TempDir(), "missing"),
	}
	return s.Round
}

// A violation is told as a timeline: what programs did, the way of the
// message's frames, and the faults and changes of the ring of that time.
func TestText(t *testing.T) {
	r := Judge(lostAndRepeated(t))
	r.Numbers.Judging = 0
	for i, n := range r.Notes { // names a directory of this run
		r.Notes[i], _, _ = strings.Cut(n, ":")
	}
	var b bytes.Buffer
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/report.txt"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got:\n%s\nwant (-update writes it):\n%s", b.String(), want)
	}
}

// The page says what the text says, and its texts cannot become markup.
func TestHTML(t *testing.T) {
	round := lostAndRepeated(t)
	round.Faults[0].Detail = "<script>"
	r := Judge(round)
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, part := range []string{"VIOLATED", "was accepted and never taken", "without mark", "gets message", "&lt;script&gt;", "version 11", "</html>"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not contain %q", part)
		}
	}
	for _, part := range []string{"<script", "http:", "https:", "src="} {
		if strings.Contains(page, part) {
			t.Errorf("the page contains %q", part)
		}
	}
}

// Reports add up, and of each clause a few violations are kept in full.
func TestAdd(t *testing.T) {
	var sum Report
	for range 3 {
		s := newScene()
		s.send(10, 1)
		s.send(10, 2)
		s.send(20, 3, hash(8))
		s.add("r1", 25, Taken, 3, hash(8))
		s.Faults = []Fault{{AtNs: 15 * msec, UntilNs: 21 * msec, Kind: "cut"}}
		sum.Add(Judge(s.Round))
	}
	n := sum.Numbers
	if n.Rounds != 3 || n.Messages != 9 || n.Kinds[wire.KindHash] != 9 || n.Lost != 6 || n.Taken != 3 || n.Faults["cut"] != 3 ||
		n.Waits["cut"].Longest != 5*time.Millisecond || sum.Count[Kept] != 6 || sum.OK() {
		t.Errorf("sum is %+v, %v", n, sum.Count)
	}
	if len(sum.Violations) != violationsMax {
		t.Errorf("%d violations in full, want %d", len(sum.Violations), violationsMax)
	}
}

// A round can be kept as JSON and judged again.
func TestRoundAsJSON(t *testing.T) {
	round := lostAndRepeated(t)
	b, err := json.Marshal(round)
	if err != nil {
		t.Fatal(err)
	}
	var again Round
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if got, want := Judge(again).Count, Judge(round).Count; len(got) != len(want) || got[Kept] != 1 || got[Marked] != 1 {
		t.Errorf("judged again: %v, before: %v", got, want)
	}
}

// The time that messages waited goes to the kinds of faults of that time.
func TestWaits(t *testing.T) {
	s := newScene()
	for i, at := range []int64{100, 1000, 2000, 3000} {
		h := hash(uint64(100 + i))
		s.send(at, uint64(i+1), h)
		s.add("r1", at+int64(100*(i+1)), Taken, uint64(i+1), h)
	}
	s.add("p", 3450, Replied, 4) // a request waits for its reply
	s.Faults = []Fault{
		{AtNs: 1050 * msec, UntilNs: 2050 * msec, Kind: "cut"},
		{AtNs: 2290 * msec, Kind: "kill-node"}, // until the end
		{AtNs: 1900 * msec, UntilNs: 1990 * msec, Kind: "hang"},
	}
	r := Judge(s.Round)
	ms := time.Millisecond
	want := map[string]Wait{"none": {100 * ms, 100 * ms}, "cut": {300 * ms, 200 * ms}, "kill-node": {450 * ms, 450 * ms}}
	for kind, w := range want {
		if got := r.Numbers.Waits[kind]; got != w {
			t.Errorf("waits during %s: %v, want %v", kind, got, w)
		}
	}
	if len(r.Numbers.Waits) != len(want) {
		t.Errorf("waits: %v", r.Numbers.Waits)
	}
}

// The message that waited longest is shown, if that was long; it breaks nothing.
func TestSlow(t *testing.T) {
	for longest, want := range map[int64]string{14_000: "", 16_000: "message 70000000…/2 of hash 0000000000000007 waited 16000.0 ms"} {
		s := newScene()
		for seq, ms := range map[uint64]int64{1: 100, 2: longest, 3: 200} {
			s.send(int64(100+seq), seq, hash(7+2*(seq-2)))
			s.add("r1", int64(100+seq)+ms, Taken, seq, hash(7+2*(seq-2)))
		}
		r := Judge(s.Round)
		got := ""
		for _, v := range r.Violations {
			if v.Clause == Slow && len(v.Lines) > 0 {
				got = v.Text
			}
		}
		if got != want || !r.OK() {
			t.Errorf("%d ms: %q, %v, want %q", longest, got, r.OK(), want)
		}
	}
}

// The middle of a long timeline is left out, but never what breaks the clause.
func TestShorten(t *testing.T) {
	var lines []Line
	for i := range 1000 {
		lines = append(lines, Line{AtNs: int64(i), Here: i == linesMax/2 || i == 500})
	}
	here := 0
	short := shorten(lines)
	for _, l := range short {
		if l.Here {
			here++
		}
	}
	if here != 2 || len(short) != linesMax+3 {
		t.Errorf("%d lines with %d to be shown, want %d with 2", len(short), here, linesMax+3)
	}
}
