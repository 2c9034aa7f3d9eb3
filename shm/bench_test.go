package shm

import (
	"fmt"
	"testing"
)

// BenchmarkRing sends and receives in batches of 64 (or what fits), without doorbells.
func BenchmarkRing(b *testing.B) {
	for _, m := range memories {
		for _, size := range []int{64, 1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", m.name, size), func(b *testing.B) {
				p := newPair(b, m, 1<<20)
				prod, cons := p.program.Producer(ToNode, Request), p.node.Consumer(ToNode, Request)
				from, to := make([]byte, size), make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for n := 0; n < b.N; {
					for range 64 {
						rec, ok, err := prod.Reserve(size)
						if err != nil {
							b.Fatal(err)
						}
						if !ok {
							break
						}
						copy(rec, from)
						prod.Commit()
					}
					prod.Publish()
					for {
						rec, _, end, ok, err := cons.Next()
						if err != nil {
							b.Fatal(err)
						}
						if !ok {
							break
						}
						copy(to, rec)
						cons.Release(end)
						n++
					}
				}
			})
		}
	}
}

// BenchmarkPingPong measures one message there and back between two goroutines that sleep.
func BenchmarkPingPong(b *testing.B) {
	for _, m := range memories {
		b.Run(m.name, func(b *testing.B) {
			p := newPair(b, m, 1<<20)
			done := make(chan error, 1)
			b.ReportAllocs()
			go func() { done <- echo(p.node, p.nodeBell, p.programBell, b.N) }()
			out, in := p.program.Producer(ToNode, Request), p.program.Consumer(ToProgram, Request)
			for range b.N {
				err := put(p.program, out, ProgramSide, p.programBell, 64, func([]byte) {})
				if err == nil && p.program.WakeNeeded(NodeSide) {
					err = p.nodeBell.Ring()
				}
				if err == nil {
					err = take(p.program, in, ProgramSide, p.programBell, func([]byte) {})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkEventfdRing measures a ring that nobody waits for.
func BenchmarkEventfdRing(b *testing.B) {
	d := memories[1].bell(b)
	for b.Loop() {
		if err := d.Ring(); err != nil {
			b.Fatal(err)
		}
	}
}
