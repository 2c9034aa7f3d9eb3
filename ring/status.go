package ring

// Status is a node status with CHMPX's bits: live, ring, action, operate, suspend.
type Status uint32

// The status bits. Values of one group exclude each other.
const (
	Down Status = 0x0
	Up   Status = 0x1

	Slave      Status = 0x00
	ServiceOut Status = 0x10
	ServiceIn  Status = 0x20

	NoAct  Status = 0x000
	Add    Status = 0x100
	Delete Status = 0x200

	Nothing Status = 0x0000
	Pending Status = 0x1000
	Doing   Status = 0x2000
	Done    Status = 0x3000

	NoSuspend Status = 0x00000
	Suspend   Status = 0x10000

	liveMask    Status = 0x00001
	ringMask    Status = 0x00030
	actionMask  Status = 0x00300
	operateMask Status = 0x03000
	suspendMask Status = 0x10000
)

// Live returns Up or Down.
func (s Status) Live() Status { return s & liveMask }

// Ring returns Slave, ServiceOut or ServiceIn.
func (s Status) Ring() Status { return s & ringMask }

// Action returns NoAct, Add or Delete.
func (s Status) Action() Status { return s & actionMask }

// Operate returns Nothing, Pending, Doing or Done.
func (s Status) Operate() Status { return s & operateMask }

// Suspended reports whether no server program is attached.
func (s Status) Suspended() bool { return s&suspendMask != 0 }

// With returns s with the group of bits that v belongs to, named by mask of
// one of the group's values, replaced: s.WithLive(Up), ...
func (s Status) with(mask, v Status) Status { return s&^mask | v&mask }

// WithLive returns s with its live bit replaced.
func (s Status) WithLive(v Status) Status { return s.with(liveMask, v) }

// WithRing returns s with its ring bits replaced.
func (s Status) WithRing(v Status) Status { return s.with(ringMask, v) }

// WithAction returns s with its action bits replaced.
func (s Status) WithAction(v Status) Status { return s.with(actionMask, v) }

// WithOperate returns s with its operate bits replaced.
func (s Status) WithOperate(v Status) Status { return s.with(operateMask, v) }

// WithSuspend returns s with its suspend bit replaced (Suspend or NoSuspend).
func (s Status) WithSuspend(v Status) Status { return s.with(suspendMask, v) }

// CanAct reports whether a server of this status may act for slots that it
// owns in sync: in service, up, with a program, and not still being added.
func (s Status) CanAct() bool {
	return s.Ring() == ServiceIn && s.Live() == Up && !s.Suspended() && s.Action() != Add
}

// Words returns the five words of the printed form: ring, live, action,
// operate, suspend.
func (s Status) Words() [5]string {
	w := [5]string{"SLAVE", "DOWN", "n/a", "Nothing", "NoSuspend"}
	switch s.Ring() {
	case ServiceOut:
		w[0] = "SERVICE OUT"
	case ServiceIn:
		w[0] = "SERVICE IN"
	}
	if s.Live() == Up {
		w[1] = "UP"
	}
	switch s.Action() {
	case Add:
		w[2] = "ADD"
	case Delete:
		w[2] = "DELETE"
	}
	switch s.Operate() {
	case Pending:
		w[3] = "Pending"
	case Doing:
		w[3] = "Doing"
	case Done:
		w[3] = "Done"
	}
	if s.Suspended() {
		w[4] = "Suspend"
	}
	return w
}

// Safe reports whether the combination of bits is one that CHMPX allows.
func (s Status) Safe() bool {
	if s&^(liveMask|ringMask|actionMask|operateMask|suspendMask) != 0 || s.Suspended() && (s.Live() == Down || s.Ring() == Slave) {
		return false
	}
	idle := s.Action() == NoAct && s.Operate() == Nothing
	switch {
	case s.Ring() == Slave || s.Ring() == ServiceOut:
		return idle
	case s.Ring() != ServiceIn:
		return false
	case s.Live() == Up:
		return s.Action() == NoAct || (s.Action() == Add || s.Action() == Delete) && s.Operate() != Nothing
	}
	return idle || s.Action() == Delete && (s.Operate() == Pending || s.Operate() == Done)
}

// String prints the status exactly as CHMPX does, for example
// "SAFE -> [SERVICE IN][UP][n/a][Nothing][NoSuspend]".
func (s Status) String() string {
	head := "SAFE -> "
	if !s.Safe() {
		head = "NOT SAFE -> "
	}
	w := s.Words()
	return head + "[" + w[0] + "][" + w[1] + "][" + w[2] + "][" + w[3] + "][" + w[4] + "]"
}
