package fsm

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/chmpx/chmpx/ring"
)

// State is the replicated state machine of a ring. It is not safe for
// concurrent use: whoever applies the log owns it. Views taken from it are
// free. Build it with New.
type State struct {
	build  Build
	index  uint64
	ringID uint64 // 0: no RingInit yet
	era    uint32
	group  string
	params Params

	servers    []server // in ring order
	nextNumber uint16   // of the next new server; never goes back
	slaves     []Slave  // by id; replaced, never changed in place

	// Assignments and the merge are shared with views: replaced, never changed
	// in place.
	base    *ring.Assignment
	pending *ring.Assignment // nil unless merge is set
	merge   *ring.Merge

	mergeTimeUs  int64
	unsealed     bool
	held         bool
	suspendOn    bool
	stood        []StoodIn // by By, For; replaced, never changed in place
	levelUsed    int       // as of View
	proposals    []proposal
	table        *ring.Table // what the fields above show; nil before RingInit
	members      []Member    // what views share; parallel to table.Servers
	epoch        ring.Epoch
	tableVersion uint64
}

// server is a member as the State keeps it. The hash numbers and the status
// time in it are set when the entry is settled.
type server struct {
	ring.Server
	Boot uint64
	// HasProgram survives DOWN, where the status cannot show it.
	HasProgram bool
	Startup    bool
	AutoOut    bool // its DELETE was asked for by AUTOMERGE
	// HoldUs: it was asked to restart and is waited for, see ServerRestart.
	HoldUs int64 `json:",omitempty"`
	// ReplacedBy is who is to take its place, 0 nobody; see ServerReplace.
	ReplacedBy ring.ID `json:",omitempty"`
	// Forget: it is to be removed, see ServerForget; it is SERVICE OUT and DOWN.
	Forget bool `json:",omitempty"`
	// Levels are those of its build, as it said.
	Levels Levels `json:",omitzero"`
}

// Result is what an entry did.
type Result struct {
	Index   uint64 // of the entry
	Err     error  // one of the refusals of this package, wrapped; the entry then changed nothing
	Changed bool   // the view is another one than before
	Repeat  bool   // the proposal had been applied before; Err is the refusal of that time, or ErrOvertaken if it is not its proposer's last one
	// Incarnation is set for an accepted ServerUp: what the server is known by now.
	Incarnation ring.Incarnation
	// MergeID is set for an accepted MergeStart.
	MergeID uint64
}

// entry is the one being applied.
type entry struct {
	index    uint64
	timeUs   int64
	changed  bool // the handler changed something that a view shows
	progress bool // all it changed is how far the transfers are
	commit   bool // the base is a new one by decision: a new epoch in any case
	res      Result
}

// New returns the state before the first entry.
func New() *State { return NewOf(Build{}) }

// NewOf is New as in another build.
func NewOf(b Build) *State { return &State{build: b} }

// Apply applies the entry at a log index. An error is fatal: the entry cannot
// be understood (ErrUnknownCommand, ErrOutOfOrder) and the node must stop. A
// refusal is not: it is in Result.Err, the same on every node, and the entry
// changed nothing.
func (s *State) Apply(index uint64, c Command) (Result, error) {
	if index <= s.index {
		return Result{}, fmt.Errorf("%w: entry %d after %d", ErrOutOfOrder, index, s.index)
	}
	f, ok := families[c.Type()]
	if !ok {
		return Result{}, fmt.Errorf("%w: type %d in entry %d", ErrUnknownCommand, c.Type(), index)
	}
	if err := s.build.understands(c.Type()); err != nil {
		return Result{}, fmt.Errorf("%w, in entry %d", err, index)
	}
	s.index = index
	raised := s.useLevel(s.build.LevelOf(c.Type())) // also by what is refused: it is in the log
	e := &entry{index: index, timeUs: c.TimeUs, res: Result{Index: index, Changed: raised}}
	if s.ringID == 0 && c.Type() != CommandRingInit {
		e.res.Err = ErrNoRing
		return e.res, nil
	}
	if done, err := s.repeated(c); done {
		e.res.Repeat, e.res.Err = true, err
		return e.res, nil
	}
	if err := f.apply(s, e, c.Body); err != nil {
		e.res.Err = fmt.Errorf("%s: %w", f.name, err)
	}
	s.remember(c, index, e.res.Err)
	if e.changed {
		s.settle(e)
	}
	e.res.Changed = e.changed || raised
	return e.res, nil
}

// View returns what the state shows now.
func (s *State) View() View {
	return View{
		Index: s.index, RingID: s.ringID, Era: s.era, Group: s.group, Params: s.params,
		Table: s.table, Members: s.members,
		Pending: s.pending, Merge: s.merge, MergeTimeUs: s.mergeTimeUs, Unsealed: s.unsealed,
		MergeHeld: s.held, SuspendMerge: s.suspendOn,
		Slaves: s.slaves, Stood: s.stood, LevelUsed: s.levelUsed,
	}
}

// ringInit applies RingInit.
func (s *State) ringInit(e *entry, b RingInit) error {
	if s.ringID != 0 {
		return ErrRingExists
	}
	if err := b.validate(); err != nil {
		return err
	}
	s.ringID, s.era, s.group, s.params = b.RingID, b.Era, b.Group, b.Params
	e.changed = true
	return nil
}

func (b RingInit) validate() error {
	p := b.Params
	switch {
	case b.RingID == 0 || b.Era == 0 || b.Group == "":
		return fmt.Errorf("%w: ring id, era or group is empty", ErrInvalid)
	case p.Placement != "slots" && p.Placement != "chmpx":
		return fmt.Errorf("%w: PLACEMENT %q, slots and chmpx are allowed", ErrInvalid, p.Placement)
	case p.Placement == "chmpx" && p.Slots != 0:
		return fmt.Errorf("%w: %d slots with PLACEMENT chmpx, 0 allowed", ErrInvalid, p.Slots)
	case p.Placement == "slots" && (p.Slots < 1 || p.Slots > SlotsMax):
		return fmt.Errorf("%w: %d slots, 1 to %d allowed", ErrInvalid, p.Slots, SlotsMax)
	case p.Replica < 0 || p.Replica > 63:
		return fmt.Errorf("%w: REPLICA %d, 0 to 63 allowed", ErrInvalid, p.Replica)
	case p.Slots*p.width() > ownersMax:
		return fmt.Errorf("%w: %d slots of %d owners, %d owners allowed", ErrInvalid, p.Slots, p.width(), ownersMax)
	case p.DeliverMode != "hash" && p.DeliverMode != "random":
		return fmt.Errorf("%w: DELIVERMODE %q, hash and random are allowed", ErrInvalid, p.DeliverMode)
	case p.MergeTimeoutS < 0 || p.MergeTimeoutS > MergeTimeoutSMax:
		return fmt.Errorf("%w: MERGETIMEOUT %d s, 0 to %d allowed", ErrInvalid, p.MergeTimeoutS, MergeTimeoutSMax)
	case p.MaxVoters < 1:
		return fmt.Errorf("%w: %d voters", ErrInvalid, p.MaxVoters)
	}
	return nil
}

// width returns the number of owners of a slot.
func (p Params) width() int { return p.Replica + 1 }

// chmpx reports whether slots are base servers instead of a fixed number.
func (p Params) chmpx() bool { return p.Placement == "chmpx" }

// find returns the member with this id, nil if there is none. The pointer is
// good until a member is added.
func (s *State) find(id ring.ID) *server {
	for i := range s.servers {
		if s.servers[i].ID == id {
			return &s.servers[i]
		}
	}
	return nil
}

// settle brings everything that follows from the changed fields up to date:
// in-sync bits, the merge, shown statuses and numbers, the table and its names.
func (s *State) settle(e *entry) {
	if !e.progress {
		s.showHeld()
		s.showReplaced()
		s.clearLostSync()
		s.checkMerge(e)
	}
	s.showNeeds()
	s.renumber()
	s.stampStatus(e.timeUs)
	s.publish(e)
}

// showNeeds sets the operate bits of servers in service outside a merge:
// Pending says that a server could serve but lacks data.
func (s *State) showNeeds() {
	var lost numbers
	looked := false
	for i := range s.servers {
		v := &s.servers[i]
		st := v.Status
		if st.Ring() != ring.ServiceIn || st.Action() != ring.NoAct {
			continue
		}
		if op := st.Operate(); op == ring.Doing || op == ring.Done {
			continue
		}
		if !looked {
			lost, looked = outOfSync(s.base), true
		}
		op := ring.Nothing
		if lost.has(v.Number) && st.CanAct() {
			op = ring.Pending
		}
		v.Status = st.WithOperate(op)
	}
}

// renumber computes the base and pending numbers (ring order, dense). With
// PLACEMENT=chmpx a base number is the server's slot: where the ring order has
// changed, the slots follow with the next merge.
func (s *State) renumber() {
	var base, pending int32
	for i := range s.servers {
		v := &s.servers[i]
		v.BaseHash, v.PendingHash = -1, -1
		if v.Status.Ring() != ring.ServiceIn {
			continue
		}
		if v.Status.Action() != ring.Add {
			v.BaseHash = base
			base++
		}
		if slot := s.slotOf(v.Number); slot >= 0 {
			v.BaseHash = slot
		}
		if v.Status.Action() != ring.Delete {
			v.PendingHash = pending
			pending++
		}
	}
}

// slotOf returns the slot that a server is the first owner of with
// PLACEMENT=chmpx, -1 if there is none.
func (s *State) slotOf(number uint16) int32 {
	if !s.params.chmpx() || s.base == nil {
		return -1
	}
	for slot := range s.base.Slots() {
		if o := s.base.Of(slot); len(o) > 0 && o[0] == number {
			return int32(slot)
		}
	}
	return -1
}

// stampStatus notes the time for every server whose status is another one than
// the table shows.
func (s *State) stampStatus(timeUs int64) {
	for i := range s.servers {
		v := &s.servers[i]
		if k := s.table.Index(v.ID); k < 0 || s.table.Servers[k].Status != v.Status {
			v.StatusTime = timeUs
		}
	}
}

// publish makes the table and the members that views share, and names them: a
// new epoch when routing changed, a new version when anything shown did.
func (s *State) publish(e *entry) {
	servers := make([]ring.Server, len(s.servers))
	members := make([]Member, len(s.servers))
	for i, v := range s.servers {
		servers[i] = v.Server
		members[i] = v.member()
	}
	if !slices.Equal(members, s.members) {
		s.members = members
	}
	if s.table != nil && s.table.Base == s.base && slices.Equal(s.table.Servers, servers) {
		return
	}
	t := s.newTable(servers)
	if e.commit || !sameRouting(s.table, t) {
		s.epoch = ring.Epoch{Era: s.era, Index: e.index}
		t.Epoch = s.epoch
		s.dropPlan()
	}
	s.tableVersion = e.index
	t.Version = e.index
	s.table = t
}

// member returns what the table does not show of a server.
func (v *server) member() Member {
	return Member{ID: v.ID, Boot: v.Boot, Startup: v.Startup, HoldUs: v.HoldUs, ReplacedBy: v.ReplacedBy, Forget: v.Forget, Levels: v.Levels}
}

// newTable builds the table of the present fields, under its last names.
func (s *State) newTable(servers []ring.Server) *ring.Table {
	t, err := ring.NewTable(s.tableOf(servers))
	if err != nil {
		panic("BUG: fsm: the state does not make a table: " + err.Error())
	}
	return t
}

// tableOf returns the parts of the table of these servers.
func (s *State) tableOf(servers []ring.Server) ring.Table {
	return ring.Table{
		Epoch: s.epoch, Version: s.tableVersion, RingID: s.ringID, Group: s.group,
		Random: s.params.DeliverMode == "random", NoMerge: !s.params.DoMerge, Servers: servers, Base: s.base,
	}
}

// sameRouting reports whether two tables of the ring route alike: members,
// addresses, incarnations, live and suspend bits, the base assignment and the
// acting owners.
func sameRouting(a, b *ring.Table) bool {
	if a == nil || !slices.EqualFunc(a.Servers, b.Servers, sameMember) || (a.Base == nil) != (b.Base == nil) {
		return false
	}
	if a.Base == nil {
		return true
	}
	if a.Base != b.Base && !a.Base.Equal(b.Base) {
		return false
	}
	for slot := range a.Base.Slots() {
		if a.ActingSlot(slot) != b.ActingSlot(slot) {
			return false
		}
	}
	return true
}

func sameMember(a, b ring.Server) bool {
	return a.ID == b.ID && a.Number == b.Number && a.Identity == b.Identity && a.Addr == b.Addr &&
		a.Incarnation == b.Incarnation && a.Status.Live() == b.Status.Live() &&
		a.Status.Suspended() == b.Status.Suspended()
}

// sortServers restores the ring order.
func (s *State) sortServers() {
	slices.SortFunc(s.servers, func(a, b server) int {
		switch {
		case ring.Less(s.params.IDType, a.Identity, b.Identity):
			return -1
		case ring.Less(s.params.IDType, b.Identity, a.Identity):
			return 1
		}
		return cmp.Compare(a.ID, b.ID)
	})
}
