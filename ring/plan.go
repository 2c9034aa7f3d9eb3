package ring

import "slices"

// Member is a server that shall own slots, for Plan.
type Member struct {
	Number uint16
	Weight int // share of the slots relative to the others; below 1 counts as 1
}

// Interleaved is the first table of a ring: slot i belongs to the i-th server
// modulo their number, and the following ones are its replicas, so that
// neighbouring hashes spread. Everybody is in sync: there is no data yet.
func Interleaved(slots, width int, numbers []uint16) *Assignment {
	a := NewAssignment(slots, width)
	for slot := range slots {
		for k := range min(width, len(numbers)) {
			a.Owners[slot*width+k] = numbers[(slot+k)%len(numbers)]
			a.InSync[slot] |= 1 << k
		}
	}
	return a
}

// Plan returns the assignment that base should become when exactly members own
// slots, width owners each. It moves as few slots as it can: owners stay where
// their share allows, a lost first owner is replaced by one of the slot's other
// owners if possible. First owners are balanced within one slot per weight, all
// owners nearly so. In-sync bits stay with owners that had them; new owners
// have none. With base nil everybody is in sync,
// and members of one weight are Interleaved. The result
// depends on nothing but the arguments.
func Plan(base *Assignment, members []Member, width int) *Assignment {
	if base == nil {
		return firstPlan(members, width)
	}
	if len(members) == 0 {
		return NewAssignment(base.Slots(), width)
	}
	p := &planner{base: base, members: members, index: make(map[uint16]int, len(members)), lists: make([][]int, base.Slots())}
	for i, m := range members {
		p.index[m.Number] = i
	}
	p.first()
	for k := 1; k < min(width, len(members)); k++ {
		p.others(k)
	}
	return p.result(width)
}

// firstPlan is the plan of a ring without base: nobody has data, so everybody
// is in sync.
func firstPlan(members []Member, width int) *Assignment {
	numbers := make([]uint16, len(members))
	alike := true
	for i, m := range members {
		numbers[i] = m.Number
		alike = alike && max(1, m.Weight) == max(1, members[0].Weight)
	}
	if alike {
		return Interleaved(DefaultSlots, width, numbers)
	}
	a := Plan(NewAssignment(DefaultSlots, width), members, width)
	for slot := range a.InSync {
		a.InSync[slot] = 1<<len(a.Of(slot)) - 1
	}
	return a
}

// planner works with positions in members instead of server numbers.
type planner struct {
	base    *Assignment
	members []Member
	index   map[uint16]int
	lists   [][]int // per slot, the new owners so far
	all     []int   // owners of any rank per member, so far
}

// quotas divides n by weight; the rest goes to the largest remainders, the
// earlier member first.
func (p *planner) quotas(n int) []int {
	total := 0
	for _, m := range p.members {
		total += max(1, m.Weight)
	}
	q := make([]int, len(p.members))
	order := make([]int, len(p.members))
	rest := make([]int, len(p.members))
	left := n
	for i, m := range p.members {
		q[i] = n * max(1, m.Weight) / total
		rest[i] = n * max(1, m.Weight) % total
		left -= q[i]
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return rest[b] - rest[a] })
	for _, i := range order[:left] {
		q[i]++
	}
	return q
}

// old returns the members among the owners that a slot had, in their order.
func (p *planner) old(slot int, to []int) []int {
	to = to[:0]
	for _, n := range p.base.Of(slot) {
		if i, ok := p.index[n]; ok {
			to = append(to, i)
		}
	}
	return to
}

// first chooses the first owners.
func (p *planner) first() {
	quota := p.quotas(len(p.lists))
	held := make([]int, len(p.members))
	var own []int
	for slot := range p.lists {
		if own = p.old(slot, own); len(own) > 0 && own[0] == p.firstOf(slot) {
			held[own[0]]++
		}
	}
	// Who has too many gives some away, spread evenly over its slots.
	seen, given := make([]int, len(p.members)), make([]int, len(p.members))
	count := make([]int, len(p.members))
	for slot := range p.lists {
		m := p.firstOf(slot)
		if m < 0 {
			continue
		}
		seen[m]++
		surplus := held[m] - quota[m]
		if surplus > 0 && seen[m]*surplus/held[m] > given[m] {
			given[m]++
			continue
		}
		p.lists[slot] = []int{m}
		count[m]++
	}
	// Other owners of the slot hold its data already.
	for slot, l := range p.lists {
		if len(l) > 0 {
			continue
		}
		for _, m := range p.old(slot, own) {
			if count[m] < quota[m] {
				p.lists[slot] = []int{m}
				count[m]++
				break
			}
		}
	}
	next := 0
	for slot, l := range p.lists {
		if len(l) > 0 {
			continue
		}
		for count[next] >= quota[next] {
			next = (next + 1) % len(p.members)
		}
		p.lists[slot] = []int{next}
		count[next]++
		next = (next + 1) % len(p.members)
	}
	p.all = count
}

// firstOf returns the member that is the first owner of a slot in base, -1 if
// that server is no member.
func (p *planner) firstOf(slot int) int {
	if o := p.base.Of(slot); len(o) > 0 {
		if i, ok := p.index[o[0]]; ok {
			return i
		}
	}
	return -1
}

// others chooses the k-th owner of every slot.
func (p *planner) others(k int) {
	quota := p.quotas((k + 1) * len(p.lists))
	for i := range quota {
		quota[i] = min(quota[i], len(p.lists)) // a server owns a slot once
	}
	var own []int
	var open []int
	for slot, l := range p.lists {
		kept := false
		for _, m := range p.old(slot, own) {
			if !slices.Contains(l, m) && p.all[m] < quota[m] {
				p.lists[slot] = append(l, m)
				p.all[m]++
				kept = true
				break
			}
		}
		if !kept {
			open = append(open, slot)
		}
	}
	for _, slot := range open {
		best := -1
		for i := range p.members {
			m := (slot + i) % len(p.members)
			if slices.Contains(p.lists[slot], m) {
				continue
			}
			if best < 0 || p.all[m]-quota[m] < p.all[best]-quota[best] {
				best = m
			}
		}
		p.lists[slot] = append(p.lists[slot], best)
		p.all[best]++
	}
}

// result turns the lists into an assignment with the in-sync bits of base.
func (p *planner) result(width int) *Assignment {
	a := NewAssignment(len(p.lists), width)
	for slot, l := range p.lists {
		old := p.base.Of(slot)
		for k, m := range l {
			n := p.members[m].Number
			a.Owners[slot*width+k] = n
			if i := slices.Index(old, n); i >= 0 && p.base.InSync[slot]&(1<<i) != 0 {
				a.InSync[slot] |= 1 << k
			}
		}
	}
	return a
}
