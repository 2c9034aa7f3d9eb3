package dataplane_test

import (
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/ring"
)

// Messages of the largest size pass through tunnels of several nodes over the
// same relay beside each other, and beside what the relay itself sends.
func TestRelayLargestMessages(t *testing.T) {
	w := &world{t: t, table: ring.Table{Group: "test", RingID: 7}, epoch: 10, cables: newCables(), rings: 16 << 20}
	w.cables.cut(0x999, 0x100)
	w.cables.cut(0x101, 0x100)
	w.cables.cut(0x102, 0x100)
	w.begin(4)
	echo(t, w.nodes[0])
	const messages = 3
	var wg sync.WaitGroup
	begin := time.Now()
	for _, n := range []*testNode{w.slave(), w.nodes[1], w.nodes[2], w.nodes[3]} {
		c := attach(t, n, client.RoleClient)
		text := string(make([]byte, c.MessageBytesMax()-16))
		wg.Go(func() {
			for range messages {
				if got := ask(t, c, 0, text); got != 0x100 {
					t.Errorf("answered by %v", got)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("took %v", time.Since(begin))
}

// Whatever ways between two nodes are cut, in one direction or both, nothing is
// lost, taken twice or out of order; and 200 flaps leave no descriptor behind.
func TestRelayOneWayCuts(t *testing.T) {
	w := newCabledWorld(t, 3)
	tr := newTraffic(w, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, w.slave(), w.nodes[0], w.nodes[2])
	rng := rand.New(rand.NewPCG(storySeed.Add(1), 12))
	tr.goesOn("messages")
	for _, n := range w.nodes {
		n.awaitStatus("all links", linked)
	}
	before := descriptors(t)
	cut := map[[2]ring.ID]bool{}
	for range 200 {
		a := rng.IntN(4)
		x := [2]ring.ID{w.nodes[a].id, w.nodes[(a+1+rng.IntN(3))%4].id}
		if cut[x] {
			w.cables.mendFrom(x[0], x[1])
			delete(cut, x)
		} else {
			w.cables.cutFrom(x[0], x[1])
			cut[x] = true
		}
		if len(cut) > 4 {
			for y := range cut {
				w.cables.mendFrom(y[0], y[1])
				delete(cut, y)
				break
			}
		}
		<-time.After(time.Duration(rng.IntN(30)) * time.Millisecond)
	}
	for y := range cut {
		w.cables.mendFrom(y[0], y[1])
	}
	for _, n := range w.nodes {
		for _, s := range w.table.Servers {
			n.awaitVia(s.ID, direct)
		}
	}
	tr.finish()
	tr.until("no descriptor is left", func() bool { return descriptors(t) <= before+4 })
}

func descriptors(t *testing.T) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
