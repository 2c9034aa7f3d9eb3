package controlplane

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// membersOf reads members as a word each: the id, V for a voter or S for a
// standby, then * the leader, ! not UP, - gone, ~ superseded, ? not caught up,
// % stray.
func membersOf(words string) []member {
	var out []member
	for _, w := range strings.Fields(words) {
		id, marks := w[:1], w[1:]
		has := func(mark string) bool { return strings.Contains(marks, mark) }
		m := member{id: raft.ServerID(id), self: has("*"), voter: has("V"), superseded: has("~"), up: !strings.ContainsAny(marks, "!-~%"), stray: has("%")}
		m.gone = has("-") || m.superseded
		m.ready = !m.voter && m.up && !has("?")
		out = append(out, m)
	}
	return out
}

// TestNextMemberChange proves which change of raft's configuration comes next.
func TestNextMemberChange(t *testing.T) {
	for _, tc := range []struct {
		name, members string
		want          memberChange
	}{
		{"complete", "aV* bV cV", memberChange{}},
		{"two servers, one voter", "aV* bS", memberChange{}},
		{"three servers, one voter", "aV* cS bS", memberChange{promote: "b"}},
		{"the second of the two", "aV* bV cS", memberChange{promote: "c"}},
		{"no second one is ready", "aV* bS cS?", memberChange{}},
		{"no second one is there any more", "aV* bV cS?", memberChange{demote: "b"}},
		{"not itself", "aV bV* cS?", memberChange{demote: "a"}},
		{"four servers, three voters", "aV* bV cV dS", memberChange{}},
		{"five servers, three voters", "aV* bV cV dS eS", memberChange{promote: "d"}},
		{"six servers, the limit is five", "aV* bV cV dV eV fS gS", memberChange{}},

		{"a voter is away for a moment", "aV* bV! cV dS", memberChange{}},
		{"a voter is gone", "aV* bV- cV dS", memberChange{promote: "d"}},
		{"its standby has the vote", "aV* bV- cV dV", memberChange{demote: "b"}},
		{"done", "aV* bS- cV dV", memberChange{}},
		{"it is back as a standby", "aV* bS cV dV", memberChange{}},
		{"a voter is gone, no standby", "aV* bV- cV", memberChange{}},
		{"a voter is gone, the standby is as well", "aV* bV- cV dS-", memberChange{}},
		{"a voter is gone, the standby has not caught up", "aV* bV- cV dS?", memberChange{}},
		{"two of five are gone, one standby", "aV* bV cV dV- eV- fS", memberChange{promote: "f"}},
		{"one of them is replaced", "aV* bV cV dV- eV- fV", memberChange{demote: "e"}},
		{"no majority would be UP", "aV* bV- cV- dS", memberChange{}},
		{"the leader alone of two", "aV* bV!", memberChange{demote: "b"}},

		{"a lost disk, not caught up", "aV* bV~ cV dS?", memberChange{}},
		{"a lost disk, caught up", "aV* bV~ cV dS", memberChange{promote: "d"}},
		{"a lost disk, the new id votes", "aV* bV~ cV dV", memberChange{remove: "b"}},
		{"a standby's lost disk", "aV* bS~ cS", memberChange{remove: "b"}},
		{"superseded before gone", "aV* bV~ cV- dV eV fV", memberChange{remove: "b"}},

		{"who never came up", "aV* bV cV dS%", memberChange{remove: "d"}},
		{"who never came up before who is gone", "aV* bV- cV dS eS%", memberChange{remove: "e"}},

		{"servers were removed", "aV* bV cV dV", memberChange{demote: "d"}},
		{"more than the limit", "aV* bV cV dV eV fV gV", memberChange{demote: "g"}},
		{"in the middle of growing one is gone", "aV* bV cV dV- eS", memberChange{demote: "d"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := nextMemberChange(membersOf(tc.members), 5); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestMemberChangesSettle proves for any configuration whose voters have a
// majority that no change takes the majority away, and that after a few changes
// the voters are odd in number.
func TestMemberChangesSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := []member{{id: "a", self: true, voter: true, up: true}}
		for i := range rapid.IntRange(0, 8).Draw(t, "others") {
			m := member{id: raft.ServerID(rune('b' + i)), voter: rapid.Bool().Draw(t, "voter"), superseded: rapid.IntRange(0, 5).Draw(t, "superseded") == 0}
			m.up = !m.superseded && rapid.Bool().Draw(t, "up")
			m.gone = m.superseded || !m.up && rapid.Bool().Draw(t, "gone")
			m.ready = m.up && !m.voter && rapid.Bool().Draw(t, "ready")
			m.stray = !m.up && !m.voter && !m.superseded && rapid.Bool().Draw(t, "stray")
			members = append(members, m)
		}
		tally := func() (voters, up int) {
			for _, m := range members {
				voters += count(m.voter)
				up += count(m.voter && m.up)
			}
			return voters, up
		}
		if voters, up := tally(); up <= voters/2 {
			t.Skip("no majority")
		}
		for range 30 {
			c := nextMemberChange(members, 5)
			if c == (memberChange{}) {
				if voters, _ := tally(); voters%2 == 0 {
					t.Fatalf("settled with %d voters: %+v", voters, members)
				}
				return
			}
			for i := range members {
				m := &members[i]
				switch m.id {
				case c.promote:
					m.voter, m.ready = true, false
				case c.demote:
					m.voter, m.ready = false, m.up
				case c.remove:
					members = append(members[:i:i], members[i+1:]...)
				default:
					continue
				}
				break
			}
			if voters, up := tally(); up <= voters/2 {
				t.Fatalf("%+v took the majority: %+v", c, members)
			}
		}
		t.Fatalf("does not settle: %+v", members)
	})
}

// standbySoon makes standbys take over soon.
func standbySoon(c *Config) { c.StandbyAfter = time.Second }

// TestStandby proves that a standby takes the vote of a voter that stays away,
// be it the leader, that there are three voters all the time but for a moment,
// and that who comes back is the standby of the next one.
func TestStandby(t *testing.T) {
	story(t, 4, func(r *rig) {
		for _, m := range r.servers {
			r.start(m.Name, standbySoon)
		}
		r.formed("a", "b", "c", "d")
		votes := func(name string) bool { return r.nodes[name].plane.Status().Raft.Suffrage == "voter" }
		for range 3 {
			var standby string
			for name := range r.nodes {
				if !votes(name) {
					standby = name
				}
			}
			victim := r.leader()
			r.kill(victim.name)
			r.await("the standby votes in its place", patience, func() bool {
				l := r.leader()
				if l == nil || !votes(standby) || !r.voters(3) {
					return false
				}
				i := memberIndex(l.plane.clusterOf(), firstRaftID(victim.member.ID))
				return i < 0 || l.plane.clusterOf()[i].Suffrage == raft.Nonvoter
			})
			r.start(victim.name, standbySoon)
			r.formed("a", "b", "c", "d")
			if votes(victim.name) || !r.voters(3) {
				t.Errorf("%s votes after its return", victim.name)
			}
		}
	})
}

// TestShortAbsence proves that a voter which is away for less than the time
// stated keeps its vote.
func TestShortAbsence(t *testing.T) {
	story(t, 4, func(r *rig) {
		r.startAll()
		r.formed("a", "b", "c", "d")
		r.kill("b")
		<-time.After(50 * time.Second)
		if st := r.nodes["d"].plane.Status(); st.Raft.Suffrage != "nonvoter" {
			t.Errorf("d is a %s after 50 s", st.Raft.Suffrage)
		}
		r.start("b", nil)
		r.formed("a", "b", "c", "d")
		<-time.After(20 * time.Second)
		if st := r.nodes["b"].plane.Status(); st.Raft.Suffrage != "voter" {
			t.Errorf("b is a %s after its return", st.Raft.Suffrage)
		}
	})
}
