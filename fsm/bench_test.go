package fsm

import (
	"testing"

	"github.com/chmpx/chmpx/ring"
)

// BenchmarkRestartOfServer tells what the entries of a server that dies and
// comes back cost (DOWN, UP, program) in a ring of the default number of slots.
// Every start of a node applies those since its last snapshot.
func BenchmarkRestartOfServer(b *testing.B) {
	p := testParams()
	p.Slots = ring.DefaultSlots
	r := ringOf(b, p, 5)
	b.ResetTimer()
	b.ReportAllocs()
	for b.Loop() {
		r.kill(1)
		r.up(1)
		r.attach(1)
	}
}
