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

// Modulo is the assignment of PLACEMENT=chmpx: one slot per server, in ring
// order, whose further owners are the servers after it. The owners of a hash
// are then those at the positions hash mod n, hash mod n + 1 ... as in CHMPX.
// It marks everybody in sync; numbers must not be empty.
func Modulo(width int, numbers []uint16) *Assignment {
	return Interleaved(len(numbers), width, numbers)
}

// Plan returns the assignment that base should become when exactly members own
// slots, width owners each (as many as there are members, if those are fewer).
// It moves as few slots as it can: owners stay where their share allows, and a
// lost first owner is replaced by another owner of the slot if possible. First
// owners, and owners of any rank together, are balanced within one slot per
// weight; who would have to own a slot twice owns every slot once. In-sync bits
// stay with owners that had them; new owners have none. With base nil everybody
// is in sync, and members of one weight are Interleaved over DefaultSlots,
// balanced within one slot per rank. The result depends on nothing but the
// arguments.
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
	p.replicas(width)
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
	all     []int   // owners' places of any rank per member, so far
	quota   []int   // what all shall become
}

// quotas divides n by weight among the members that are not left out; the rest
// goes to the largest remainders, the earlier member first.
func (p *planner) quotas(n int, out []bool) []int {
	total := 0
	for i, m := range p.members {
		if !out[i] {
			total += max(1, m.Weight)
		}
	}
	q := make([]int, len(p.members))
	rest := make([]int, len(p.members))
	var order []int
	left := n
	for i, m := range p.members {
		if out[i] {
			continue
		}
		q[i] = n * max(1, m.Weight) / total
		rest[i] = n * max(1, m.Weight) % total
		left -= q[i]
		order = append(order, i)
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
	quota := p.quotas(len(p.lists), make([]bool, len(p.members)))
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

// replicas chooses the further owners of every slot: old owners stay first,
// then open places are filled, then surplus moves to whom owners are missing.
func (p *planner) replicas(width int) {
	want := min(width, len(p.members))
	p.quota = p.ownerQuotas(want)
	var own []int
	for slot, l := range p.lists {
		own = p.old(slot, own)
		for _, m := range own {
			if len(l) < want && !slices.Contains(l, m) {
				l = append(l, m)
				p.all[m]++
			}
		}
		p.lists[slot] = l
	}
	// Neighbouring slots have the same owners: in their order the last ones
	// would be left with nobody to choose from. A long stride mixes them.
	stride := coprime(len(p.lists))
	for i, slot := 0, 0; i < len(p.lists); i, slot = i+1, (slot+stride)%len(p.lists) {
		for len(p.lists[slot]) < want {
			m := p.neediest(slot)
			p.lists[slot] = append(p.lists[slot], m)
			p.all[m]++
		}
	}
	for i, slot := 0, 0; i < len(p.lists); i, slot = i+1, (slot+stride)%len(p.lists) {
		for k := 1; k < want; k++ {
			if m := p.lists[slot][k]; p.all[m] > p.quota[m] {
				if to := p.neediest(slot); p.all[to] < p.quota[to] {
					p.replace(slot, k, to)
				}
			}
		}
	}
	p.detours()
}

// ownerQuotas shares out all places of all slots by weight. Nobody can own a
// slot twice: what is above the number of slots goes to the others.
func (p *planner) ownerQuotas(want int) []int {
	slots := len(p.lists)
	full := make([]bool, len(p.members))
	for places := want * slots; ; {
		q := p.quotas(places, full)
		again := false
		for i := range q {
			if !full[i] && q[i] > slots {
				full[i], again = true, true
				places -= slots
			}
		}
		if again {
			continue
		}
		for i := range q {
			if full[i] {
				q[i] = slots
			}
		}
		return q
	}
}

// coprime returns a number near 0.618 n that has no divisor in common with n,
// so that its multiples modulo n visit every number once, far apart.
func coprime(n int) int {
	for s := max(1, n*618/1000); ; s++ {
		a, b := n, s
		for b != 0 {
			a, b = b, a%b
		}
		if a == 1 {
			return s
		}
	}
}

// neediest returns the member that lacks most owners' places and does not own
// the slot, -1 if all own it.
func (p *planner) neediest(slot int) int {
	best := -1
	for i := range p.members {
		m := (slot + i) % len(p.members)
		if (best < 0 || p.quota[m]-p.all[m] > p.quota[best]-p.all[best]) && !slices.Contains(p.lists[slot], m) {
			best = m
		}
	}
	return best
}

// replace gives the k-th place of a slot to another member.
func (p *planner) replace(slot, k, to int) {
	p.all[p.lists[slot][k]]--
	p.lists[slot][k] = to
	p.all[to]++
}

// detours ends what direct moves could not: where whoever has too many shares
// each of its slots with whoever lacks some, a third member stands between.
func (p *planner) detours() {
	for x := range p.members {
		for p.all[x] > p.quota[x] && p.detour(x) {
		}
	}
}

// detour moves one place from x, if need be over a third member, to one that
// lacks some.
func (p *planner) detour(x int) bool {
	givers := make([]int, len(p.members)) // a slot in which the member could give its place to to, or -1
	for to := range p.members {
		if p.all[to] >= p.quota[to] {
			continue
		}
		for y := range givers {
			givers[y] = -1
		}
		for slot, l := range p.lists {
			if !slices.Contains(l, to) {
				for _, y := range l[1:] {
					givers[y] = slot
				}
			}
		}
		if slot := givers[x]; slot >= 0 {
			p.replace(slot, slices.Index(p.lists[slot], x), to)
			return true
		}
		for slot, l := range p.lists {
			k := slices.Index(l, x)
			if k < 1 {
				continue
			}
			for y, from := range givers {
				if from >= 0 && !slices.Contains(l, y) {
					p.replace(from, slices.Index(p.lists[from], y), to)
					p.replace(slot, k, y)
					return true
				}
			}
		}
	}
	return false
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
