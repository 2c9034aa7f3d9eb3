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
