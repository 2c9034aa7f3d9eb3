package controlplane

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// upgrades is a ring whose nodes are exchanged for older and newer builds at random.
type upgrades struct {
	*rig
	rand  *rand.Rand
	newer map[string]bool // by node: which build it is, or was
	wiped bool            // a disk was lost
	done  []string        // for the message
	asked sync.WaitGroup  // commands under way
}

// node picks one.
func (u *upgrades) node() string { return []string{"a", "b", "c", "s"}[u.rand.IntN(4)] }

// begin starts a node in a build.
func (u *upgrades) begin(name string, newer bool) {
	u.newer[name] = newer
	u.as(buildOf(1, map[bool]int{false: 1, true: 2}[newer]), name)
}

// end ends a node, which may have ended by itself if it must not go on.
func (u *upgrades) end(name string) {
	n := u.nodes[name]
	if n == nil {
		return
	}
	u.check(name)
	if u.nodes[name] != nil {
		u.kill(name)
	}
}

// wasUp reports whether this start of a node has come up.
func (n *rigNode) wasUp() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, v := range n.views {
		if n.incs[i] != 0 || slaveIsUp(v, n.member.ID, n.plane.boot) {
			return true
		}
	}
	return false
}

// check checks a node: if it has ended, then it is of the older build, was put in the place of a newer
// one, and had not come up; and it says what to do.
func (u *upgrades) check(name string) {
	n := u.nodes[name]
	if n == nil {
		return
	}
	select {
	case err := <-n.done:
		delete(u.nodes, name)
		n.stop()
		if !n.plane.cfg.Slave {
			<-n.done
		}
		if err == nil || u.newer[name] || n.wasUp() || !errors.Is(err, ErrStateMachine) {
			u.t.Fatalf("%s ended with %v after %s; up before: %t", name, err, strings.Join(u.done, ", "), n.wasUp())
		}
		u.saysUpgrade(err)
		u.done = append(u.done, name+" stopped")
	default:
		if v := n.plane.view(); !u.newer[name] && v.LevelUsed > 1 {
			u.t.Fatalf("%s goes on with a log of level %d after %s", name, v.LevelUsed, strings.Join(u.done, ", "))
		}
	}
}

// step does something.
func (u *upgrades) step() {
	what := ""
	switch name := u.node(); u.rand.IntN(8) {
	case 0, 1, 2:
		newer := u.rand.IntN(3) > 0
		what = fmt.Sprintf("%s newer %t", name, newer)
		u.end(name)
		if u.rand.IntN(2) == 0 {
			u.pause()
		}
		u.begin(name, newer)
	case 3:
		if u.wiped {
			return
		}
		u.wiped = true
		what = "c lost its disk"
		u.end("c")
		if err := os.RemoveAll(u.dataDir("c")); err != nil {
			u.t.Fatal(err)
		}
		u.begin("c", u.rand.IntN(2) == 0)
	case 4:
		if n := u.leader(); n != nil {
			what = n.name + " gives the lead away"
			_ = n.plane.node.Load().LeadershipTransfer().Error()
		}
	case 5:
		if n := u.leader(); n != nil {
			what = n.name + " is cut off"
			n.plane.stream.Load().Hold(true)
			u.pause()
			n.plane.stream.Load().Hold(false)
		}
	default:
		if n := u.nodes[name]; n != nil && !n.plane.cfg.Slave {
			what = "command at " + name
			on := u.rand.IntN(2) == 0
			for range 1 + u.rand.IntN(3) {
				u.asked.Go(func() { n.suspend(on) }) // ends with CommandTimeout
			}
			if u.rand.IntN(2) == 0 {
				u.asked.Wait()
			}
		}
	}
	u.done = append(u.done, what)
}

// pause lets some time pass.
func (u *upgrades) pause() { <-time.After(time.Duration(u.rand.IntN(4000)) * time.Millisecond) }

// TestUpgradesAtRandom proves, for nodes that are exchanged for older and newer builds in any order, with
// and without their disks, and while the lead changes: no node that is up gets anything that it
// does not understand; who must not go on says so; and once all are upgraded the ring is whole and does
// what is new.
func TestUpgradesAtRandom(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			slaveStory(t, 3, func(r *rig) {
				u := &upgrades{rig: r, rand: rand.New(rand.NewPCG(seed, 2)), newer: make(map[string]bool)}
				for _, name := range []string{"a", "b", "c", "s"} {
					u.begin(name, u.rand.IntN(2) == 0)
				}
				u.pause()
				for range 25 {
					u.step()
					u.pause()
					for _, name := range []string{"a", "b", "c", "s"} {
						u.check(name)
					}
				}
				for _, name := range []string{"a", "b", "c", "s"} {
					u.end(name)
					u.begin(name, true)
				}
				t.Log(strings.Join(u.done, ", "))
				u.asked.Wait()
				u.formed("a", "b", "c")
				u.await("the slave is up", patience, func() bool {
					s := u.nodes["s"]
					return slaveIsUp(s.plane.view(), s.member.ID, s.plane.boot)
				})
				u.await("it does what is new", patience, func() bool { return u.nodes["a"].suspend(true) == nil })
				u.await("everybody has it", patience, func() bool {
					for _, n := range u.nodes {
						if v := n.plane.view(); !v.SuspendMerge || v.LevelUsed != 2 {
							return false
						}
					}
					return true
				})
			})
		})
	}
}
