package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// CommandType names what a command does. The numbers are not stored: entries
// carry the name.
type CommandType uint8

// The command types, by family.
const (
	CommandNone CommandType = iota // never valid in the log

	CommandRingInit

	CommandServerUp
	CommandNodeDown
	CommandProgramsChanged
	CommandServerRestart
	CommandHoldEnd
	CommandServerReplace
	CommandServerForget
	CommandServerForgotten
	CommandStoodIn

	CommandServiceIn
	CommandServiceOut

	CommandPendingTable
	CommandMergeStart
	CommandTransferReady
	CommandMergeSeal
	CommandTransferFinal
	CommandMergeCommit
	CommandMergeUnseal
	CommandMergeAbort
	CommandSuspendMerge
	CommandMergeRequest
	CommandMergeComplete

	CommandSlaveUp
	CommandSlaveDown
	CommandSlaveForget
)

// commandVersion is the version of the encoding. A change that an older node
// would apply differently needs a new one.
const commandVersion = 1

// CommandBytesMax bounds an encoded command.
const CommandBytesMax = 4 << 20

// Body is what a command says: one of the structs of this package that have a
// command type (RingInit, ServerUp, ...).
type Body interface {
	Type() CommandType
}

// Command is one entry of the log.
type Command struct {
	// Proposer and Number name the proposal: the boot id of the node that made
	// it, and a number that grows by the proposer's own order. A number that
	// was applied already is ignored, so a proposal may be sent again. Proposer
	// 0 is never remembered: such a command is applied each time.
	Proposer uint64
	Number   uint64
	// TimeUs is the proposer's clock, in unix microseconds. It is shown as the
	// time of a status change and decides nothing else in Apply.
	TimeUs int64
	Body   Body
}

// Type returns the command's type, CommandNone when it has no body.
func (c Command) Type() CommandType {
	if c.Body == nil {
		return CommandNone
	}
	return c.Body.Type()
}

// String returns the name that entries carry, "unknown" for other values.
func (t CommandType) String() string {
	if f, ok := families[t]; ok {
		return f.name
	}
	return "unknown"
}

// envelope is the encoded form of a Command.
type envelope struct {
	Version  int             `json:"v"`
	Type     string          `json:"type"`
	Proposer uint64          `json:"proposer,omitempty"`
	Number   uint64          `json:"number,omitempty"`
	TimeUs   int64           `json:"time_us,omitempty"`
	Body     json.RawMessage `json:"body"`
}

// Encode returns the bytes of a command for the log. It fails with
// ErrUnknownCommand for a command without a body of this package and with
// ErrBadCommand for one that is larger than CommandBytesMax.
func Encode(c Command) ([]byte, error) {
	f, ok := families[c.Type()]
	if !ok {
		return nil, fmt.Errorf("%w: cannot encode type %d", ErrUnknownCommand, c.Type())
	}
	body, err := json.Marshal(c.Body)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.name, err)
	}
	b, err := json.Marshal(envelope{
		Version: commandVersion, Type: f.name,
		Proposer: c.Proposer, Number: c.Number, TimeUs: c.TimeUs, Body: body,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.name, err)
	}
	if len(b) > CommandBytesMax {
		return nil, fmt.Errorf("%w: %s of %d bytes, at most %d allowed", ErrBadCommand, f.name, len(b), CommandBytesMax)
	}
	return b, nil
}

// Decode is the inverse of Encode. It fails with ErrUnknownCommand for a type,
// a version or a field that this program does not know, and with ErrBadCommand for
// bytes that are no command. A leader
// decodes what others ask it to propose before it proposes it: every node
// stops at a committed entry that does not decode.
func Decode(b []byte) (Command, error) {
	if len(b) > CommandBytesMax {
		return Command{}, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrBadCommand, len(b), CommandBytesMax)
	}
	var e envelope
	if err := strict(b, &e); err != nil {
		return Command{}, fmt.Errorf("%w: decode envelope: %w", unreadable(err), err)
	}
	t, ok := typesByName[e.Type]
	if !ok || e.Version != commandVersion {
		return Command{}, fmt.Errorf("%w: %q version %d", ErrUnknownCommand, e.Type, e.Version)
	}
	body, err := families[t].decode(e.Body)
	if err != nil {
		return Command{}, fmt.Errorf("%w: decode %s: %w", unreadable(err), e.Type, err)
	}
	return Command{Proposer: e.Proposer, Number: e.Number, TimeUs: e.TimeUs, Body: body}, nil
}

// errUnknownField says that a value is sound but for a field that this program does
// not know: a newer one wrote it.
var errUnknownField = errors.New("fsm: unknown field")

// unreadable returns what an error of strict means for a command.
func unreadable(err error) error {
	if errors.Is(err, errUnknownField) {
		return ErrUnknownCommand
	}
	return ErrBadCommand
}

// strict decodes exactly one JSON value without unknown fields: a field that a
// newer program added could change what the entry means.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if json.Unmarshal(b, v) == nil {
			return fmt.Errorf("%w: %w", errUnknownField, err)
		}
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("bytes after the value")
	}
	return nil
}

// family is how one command type is named, decoded and applied.
type family struct {
	name   string
	level  int // feature level from which on a build understands it
	decode func([]byte) (Body, error)
	apply  func(*State, *entry, Body) error
}

// command makes the family of one body type.
func command[B Body](name string, level int, apply func(*State, *entry, B) error) family {
	return family{
		name: name, level: level,
		decode: func(b []byte) (Body, error) {
			var body B
			if err := strict(b, &body); err != nil {
				return nil, err
			}
			return body, nil
		},
		apply: func(s *State, e *entry, body Body) error { return apply(s, e, body.(B)) },
	}
}

// typesByName is filled by init, because the families refer to functions that
// refer to command types.
var (
	families    map[CommandType]family
	typesByName map[string]CommandType
)

func init() {
	families = map[CommandType]family{
		CommandRingInit:        command("RingInit", 1, (*State).ringInit),
		CommandServerUp:        command("ServerUp", 1, (*State).serverUp),
		CommandNodeDown:        command("NodeDown", 1, (*State).nodeDown),
		CommandProgramsChanged: command("ProgramsChanged", 1, (*State).programsChanged),
		CommandServerRestart:   command("ServerRestart", 1, (*State).serverRestart),
		CommandHoldEnd:         command("HoldEnd", 1, (*State).holdEnd),
		CommandServerReplace:   command("ServerReplace", 1, (*State).serverReplace),
		CommandServerForget:    command("ServerForget", 1, (*State).serverForget),
		CommandServerForgotten: command("ServerForgotten", 1, (*State).serverForgotten),
		CommandStoodIn:         command("StoodIn", 1, (*State).stoodIn),
		CommandServiceIn:       command("ServiceIn", 1, (*State).serviceIn),
		CommandServiceOut:      command("ServiceOut", 1, (*State).serviceOut),
		CommandPendingTable:    command("PendingTable", 1, (*State).pendingTable),
		CommandMergeStart:      command("MergeStart", 1, (*State).mergeStart),
		CommandTransferReady:   command("TransferReady", 1, (*State).transferReady),
		CommandMergeSeal:       command("MergeSeal", 1, (*State).mergeSeal),
		CommandTransferFinal:   command("TransferFinal", 1, (*State).transferFinal),
		CommandMergeCommit:     command("MergeCommit", 1, (*State).mergeCommit),
		CommandMergeUnseal:     command("MergeUnseal", 1, (*State).mergeUnseal),
		CommandMergeAbort:      command("MergeAbort", 1, (*State).mergeAbort),
		CommandSuspendMerge:    command("SuspendMerge", 1, (*State).suspendMerge),
		CommandMergeRequest:    command("MergeRequest", 1, (*State).mergeRequest),
		CommandMergeComplete:   command("MergeComplete", 1, (*State).mergeComplete),
		CommandSlaveUp:         command("SlaveUp", 1, (*State).slaveUp),
		CommandSlaveDown:       command("SlaveDown", 1, (*State).slaveDown),
		CommandSlaveForget:     command("SlaveForget", 1, (*State).slaveForget),
	}
	typesByName = make(map[string]CommandType, len(families))
	for t, f := range families {
		typesByName[f.name] = t
	}
}
