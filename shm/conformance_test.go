package shm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

// memory is one kind of memory that rings must work over.
type memory struct {
	name  string
	alloc func(t testing.TB, size int) []byte
	bell  func(t testing.TB) Doorbell
}

var memories = []memory{
	{"heap", func(_ testing.TB, size int) []byte { return make([]byte, size) },
		func(t testing.TB) Doorbell { return closeAtEnd(t, NewChanDoorbell()) }},
	{"memfd", mapped, func(t testing.TB) Doorbell {
		fd, err := NewEventfd()
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewEventfdDoorbell(fd)
		if err != nil {
			t.Fatal(err)
		}
		return closeAtEnd(t, d)
	}},
}

func mapped(t testing.TB, size int) []byte {
	fd, mem, err := CreateMemfd(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(Unmap(mem), closeFd(fd)); err != nil {
			t.Error(err)
		}
	})
	return mem
}

func closeAtEnd(t testing.TB, d Doorbell) Doorbell {
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// pair is a segment as its two sides see it.
type pair struct {
	node, program         *Segment
	nodeBell, programBell Doorbell
}

func newPair(t testing.TB, m memory, ringBytes int) *pair {
	mem := m.alloc(t, SegmentBytes(ringBytes))
	node, err := Format(mem, [16]byte{1, 2, 3}, ringBytes)
	if err != nil {
		t.Fatal(err)
	}
	program, err := Open(mem)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{node, program, m.bell(t), m.bell(t)}
}

// TestConformance proves the promises of rings and flags over each memory.
func TestConformance(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, m memory)
	}{
		{"stream in order through a small ring", testStream},
		{"both directions at once", testPingPong},
		{"a full ring says so and takes more after release", testFull},
		{"every size fits an empty ring at every place", testSizes},
		{"records are read again until released", testAt},
		{"ends continue where the ring stands", testReopen},
		{"void records are passed over and released", testVoid},
		{"nothing is seen before publish", testPublish},
		{"flags are taken down once", testFlags},
		{"sending and receiving does not allocate", testAllocs},
	}
	for _, m := range memories {
		for _, tt := range tests {
			t.Run(m.name+"/"+tt.name, func(t *testing.T) { tt.run(t, m) })
		}
	}
}

// put writes one record, waiting on bell for room as a producer must.
func put(s *Segment, p *Producer, self Side, bell Doorbell, n int, fill func([]byte)) error {
	var failed error
	attempt := func() bool {
		rec, ok, err := p.Reserve(n)
		if err != nil {
			failed = err
			return true
		}
		if ok {
			fill(rec)
			p.Commit()
			p.Publish()
		}
		return ok
	}
	err := bell.Wait(func() bool {
		if attempt() {
			return true
		}
		s.WantRoom(self)
		return attempt()
	})
	return errors.Join(err, failed)
}

// take reads one record, waiting on bell as a consumer must.
func take(s *Segment, c *Consumer, self Side, bell Doorbell, use func([]byte)) error {
	var failed error
	attempt := func() bool {
		rec, _, end, ok, err := c.Next()
		if ok {
			use(rec)
			c.Release(end)
		}
		failed = err
		return ok || err != nil
	}
	err := bell.Wait(func() bool {
		if attempt() {
			return true
		}
		s.Sleep(self)
		return attempt()
	})
	s.Awake(self)
	return errors.Join(err, failed)
}

func pattern(b []byte, seed uint64) {
	for i := range b {
		b[i] = byte(seed + uint64(i))
	}
}

func testStream(t *testing.T, m memory) {
	const records = 20000
	p := newPair(t, m, RingBytesMin)
	size := func(i int) int { return 8 + int(uint32(i)*2654435761%1000) }
	sent := make(chan error, 1)
	go func() {
		var err error
		prod := p.program.Producer(ToNode, Request)
		for i := 0; i < records && err == nil; i++ {
			err = put(p.program, prod, ProgramSide, p.programBell, size(i), func(b []byte) {
				binary.LittleEndian.PutUint64(b, uint64(i))
				pattern(b[8:], uint64(i))
			})
			if p.program.WakeNeeded(NodeSide) {
				err = errors.Join(err, p.nodeBell.Ring())
			}
		}
		sent <- err
	}()
	cons := p.node.Consumer(ToNode, Request)
	want := make([]byte, RingBytesMin)
	for i := range records {
		err := take(p.node, cons, NodeSide, p.nodeBell, func(b []byte) {
			pattern(want[:size(i)-8], uint64(i))
			if len(b) != size(i) || binary.LittleEndian.Uint64(b) != uint64(i) || !bytes.Equal(b[8:], want[:size(i)-8]) {
				t.Errorf("record %d: got %d bytes, sequence %d; want %d bytes", i, len(b), binary.LittleEndian.Uint64(b), size(i))
			}
		})
		if err != nil || t.Failed() {
			t.Fatal("record", i, err)
		}
		if p.node.RoomWanted(ProgramSide) {
			if err := p.programBell.Ring(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func testPingPong(t *testing.T, m memory) {
	const rounds = 3000
	p := newPair(t, m, RingBytesMin)
	done := make(chan error, 1)
	go func() { done <- echo(p.node, p.nodeBell, p.programBell, rounds) }()
	if err := ping(p.program, p.programBell, p.nodeBell, rounds); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// echo plays the node: what comes on the request ring goes back on it.
func echo(s *Segment, own, other Doorbell, rounds int) error {
	in, out := s.Consumer(ToNode, Request), s.Producer(ToProgram, Request)
	buf := make([]byte, 0, RingBytesMin)
	for range rounds {
		if err := take(s, in, NodeSide, own, func(b []byte) { buf = append(buf[:0], b...) }); err != nil {
			return err
		}
		if err := put(s, out, NodeSide, own, len(buf), func(b []byte) { copy(b, buf) }); err != nil {
			return err
		}
		if s.WakeNeeded(ProgramSide) {
			if err := other.Ring(); err != nil {
				return err
			}
		}
	}
	return nil
}

// ping plays the program: one message at a time, checked when it comes back.
func ping(s *Segment, own, other Doorbell, rounds int) error {
	out, in := s.Producer(ToNode, Request), s.Consumer(ToProgram, Request)
	want := make([]byte, RecordBytesMax(s.RingBytes()))
	for i := range rounds {
		n := i * 37 % len(want)
		pattern(want[:n], uint64(i))
		if err := put(s, out, ProgramSide, own, n, func(b []byte) { copy(b, want) }); err != nil {
			return err
		}
		if s.WakeNeeded(NodeSide) {
			if err := other.Ring(); err != nil {
				return err
			}
		}
		same := false
		if err := take(s, in, ProgramSide, own, func(b []byte) { same = bytes.Equal(b, want[:n]) }); err != nil {
			return err
		}
		if !same {
			return errors.New("the echo differs")
		}
	}
	return nil
}

func testFull(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	prod, cons := p.program.Producer(ToNode, Reply), p.node.Consumer(ToNode, Reply)
	n := 0
	for ; ; n++ {
		rec, ok, err := prod.Reserve(56)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		rec[0] = byte(n)
		prod.Commit()
	}
	prod.Publish()
	if n != RingBytesMin/64 || prod.Free() != 0 {
		t.Fatalf("%d records of 64 bytes fit, %d bytes are free; want %d and 0", n, prod.Free(), RingBytesMin/64)
	}
	for i := range 2 * n {
		rec, _, end, ok, err := cons.Next()
		if !ok || err != nil || rec[0] != byte(i) {
			t.Fatalf("record %d: %v %v", i, ok, err)
		}
		if _, ok, _ := prod.Reserve(56); ok {
			t.Fatal("room before release")
		}
		cons.Release(end)
		rec, ok, err = prod.Reserve(56)
		if !ok || err != nil {
			t.Fatalf("no room after release: %v", err)
		}
		rec[0] = byte(n + i)
		if got := prod.Commit(); prod.Head() != end || got != end+RingBytesMin {
			t.Fatalf("head %d, tail %d after release of %d", prod.Head(), got, end)
		}
		prod.Publish()
	}
}

func testSizes(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
	most := RecordBytesMax(RingBytesMin)
	for step := range RingBytesMin/8 + 1 {
		for _, n := range []int{0, 1, most - 1, most, step % most} {
			rec, ok, err := prod.Reserve(n)
			if !ok || err != nil || len(rec) != n || cap(rec) != n {
				t.Fatalf("reserve %d: %d bytes, cap %d, %v %v", n, len(rec), cap(rec), ok, err)
			}
			end := prod.Commit()
			prod.Publish()
			got, _, gotEnd, ok, err := cons.Next()
			if !ok || err != nil || len(got) != n || gotEnd != end {
				t.Fatalf("next: %d bytes to %d, want %d to %d; %v %v", len(got), gotEnd, n, end, ok, err)
			}
			cons.Release(gotEnd)
		}
	}
	if _, _, err := prod.Reserve(most + 1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("reserve of %d: %v, want ErrTooLarge", most+1, err)
	}
}

func testAt(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
	type place struct {
		pos, end uint64
		n        int
	}
	var open []place
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		n := rnd.IntN(300)
		rec, ok, err := prod.Reserve(n)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			pattern(rec, uint64(n))
			prod.Commit()
			prod.Publish()
			_, pos, end, _, err := cons.Next()
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, place{pos, end, n})
		}
		for _, o := range open {
			rec, err := cons.At(o.pos)
			if err != nil || len(rec) != o.n || (o.n > 0 && rec[0] != byte(o.n)) {
				t.Fatalf("At(%d): %d bytes, want %d: %v", o.pos, len(rec), o.n, err)
			}
		}
		if !ok || rnd.IntN(3) == 0 {
			k := rnd.IntN(len(open))
			cons.Release(open[k].end)
			cons.Release(open[0].end) // going back is ignored
			open = open[k+1:]
		}
	}
}

func testReopen(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	for i := range 1000 {
		prod, cons := p.program.Producer(ToNode, Reply), p.node.Consumer(ToNode, Reply)
		for k := range 3 {
			rec, ok, err := prod.Reserve(100)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			rec[0] = byte(i + k)
			prod.Commit()
		}
		prod.Publish()
		for k := range 3 {
			if rec, _, _, ok, err := cons.Next(); !ok || err != nil || rec[0] != byte(i+k) {
				t.Fatal(ok, err)
			}
		}
		// Not released: a new consumer sees them again.
		again := p.node.Consumer(ToNode, Reply)
		for k := range 3 {
			rec, _, end, ok, err := again.Next()
			if !ok || err != nil || rec[0] != byte(i+k) {
				t.Fatal(ok, err)
			}
			again.Release(end)
		}
		if !again.Empty() {
			t.Fatal("not empty after the last record")
		}
	}
}

// testVoid strikes out some of the untaken records of a ring that was handed
// back, at every place of the ring, and then fills it again: what is left comes
// in order, and no room is lost.
func testVoid(t *testing.T, m memory) {
	rnd := rand.New(rand.NewPCG(3, 4))
	p := newPair(t, m, RingBytesMin)
	prod, cons := p.node.Producer(ToProgram, Request), p.program.Consumer(ToProgram, Request)
	next := uint64(0) // number of the record that comes next
	for round := range 500 {
		var want []uint64
		for {
			rec, ok, err := prod.Reserve(8 + rnd.IntN(300))
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			binary.NativeEndian.PutUint64(rec, next)
			want = append(want, next)
			next++
			prod.Commit()
		}
		prod.Publish()
		walk, kept := p.node.Consumer(ToProgram, Request), want[:0]
		for _, number := range want {
			rec, pos, _, ok, err := walk.Next()
			if !ok || err != nil || binary.NativeEndian.Uint64(rec) != number {
				t.Fatalf("round %d: walk found %v, %v, want record %d", round, ok, err, number)
			}
			if round%3 != 0 && rnd.IntN(round%3*2) == 0 {
				kept = append(kept, number)
				continue
			}
			if err := walk.Void(pos); err != nil {
				t.Fatal(err)
			}
			if err := p.node.Consumer(ToProgram, Request).Void(pos); err == nil {
				t.Fatal("a record that Next has not returned was struck out")
			}
		}
		for _, number := range kept {
			rec, _, end, ok, err := cons.Next()
			if !ok || err != nil || binary.NativeEndian.Uint64(rec) != number {
				t.Fatalf("round %d: got %v, %v, want record %d", round, ok, err, number)
			}
			cons.Release(end)
		}
		if _, _, _, ok, err := cons.Next(); ok || err != nil {
			t.Fatalf("round %d: a record too much, or %v", round, err)
		}
		cons.Release(cons.Read())
		if free := prod.Free(); free != RingBytesMin {
			t.Fatalf("round %d: %d bytes free, want the whole ring", round, free)
		}
	}
}

func testPublish(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	prod, cons := p.program.Producer(ToNode, Control), p.node.Consumer(ToNode, Control)
	if _, _, err := prod.Reserve(100); err != nil {
		t.Fatal(err)
	}
	if rec, _, _ := prod.Reserve(3); len(rec) != 3 {
		t.Fatal("a second Reserve does not replace the first")
	}
	prod.Commit()
	if _, _, _, ok, err := cons.Next(); ok || err != nil || !cons.Empty() {
		t.Fatal("a record is seen before it is published", err)
	}
	prod.Publish()
	rec, _, _, ok, err := cons.Next()
	if !ok || err != nil || len(rec) != 3 {
		t.Fatal("a published record is not seen", err)
	}
}

func testFlags(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	for _, side := range []Side{NodeSide, ProgramSide} {
		if p.node.WakeNeeded(side) || p.node.RoomWanted(side) {
			t.Errorf("side %d: flags are set in a fresh segment", side)
		}
		p.program.Sleep(side)
		p.program.WantRoom(side)
		if p.node.WakeNeeded(1-side) || p.node.RoomWanted(1-side) {
			t.Errorf("side %d: flags of the other side are set", side)
		}
		if !p.node.WakeNeeded(side) || !p.node.RoomWanted(side) {
			t.Errorf("side %d: flags are not seen", side)
		}
		if p.node.WakeNeeded(side) || p.node.RoomWanted(side) {
			t.Errorf("side %d: flags are seen twice", side)
		}
		p.program.Sleep(side)
		p.program.Awake(side)
		if p.node.WakeNeeded(side) {
			t.Errorf("side %d: awake, but asks to be woken", side)
		}
	}
	if got := p.program.Session(); got != [16]byte{1, 2, 3} {
		t.Errorf("session %v", got)
	}
}

func testAllocs(t *testing.T, m memory) {
	p := newPair(t, m, RingBytesMin)
	prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
	poll := func() bool { return true }
	n := testing.AllocsPerRun(1000, func() {
		if _, ok, err := prod.Reserve(100); !ok || err != nil {
			t.Fatal(ok, err)
		}
		prod.Commit()
		prod.Publish()
		p.node.Sleep(NodeSide)
		if !p.program.WakeNeeded(NodeSide) || p.nodeBell.Ring() != nil || p.nodeBell.Wait(poll) != nil {
			t.Fatal("doorbell")
		}
		_, _, end, _, _ := cons.Next()
		cons.Release(end)
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
