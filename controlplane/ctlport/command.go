package ctlport

import (
	"context"
	"fmt"
	"strings"

	"github.com/chmpx/chmpx/ring"
)

// Command is a text command as it came in.
type Command struct {
	Name string   // upper case: names are case-insensitive
	Word string   // the name as it was sent; empty: nothing but separators came
	Args []string // the other words, as sent
	Cut  bool     // more came than a command may have: it is not to be executed

	ReadOnly bool // the host that sent it may only look
}

// ParseCommand splits a command line. Words are separated by blanks, tabs, CR
// and LF, any number of them; what follows a NUL is not read.
func ParseCommand(line []byte) Command {
	s, _, _ := strings.Cut(string(line), "\x00")
	words := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) })
	if len(words) == 0 {
		return Command{}
	}
	return Command{Name: strings.ToUpper(words[0]), Word: words[0], Args: words[1:]}
}

// Unknown is the answer to a command that does not exist.
func Unknown(c Command) string { return fmt.Sprintf("Unknown command(%s)\n", c.Word) }

// Answers is what a node answers to text commands. Its functions may be called
// from many goroutines at once. Only Change may block, until its context ends.
type Answers struct {
	Version string // what VERSION prints
	Slave   bool
	IDType  ring.IDType // says how servers are called
	Self    func() Self // what SELFSTATUS shows; OnControlPort comes from the port
	All     func() All  // what ALLSTATUS shows
	Dump    func() Dump // what DUMP shows
	Trace   Tracing
	Change  func(context.Context, Change) Outcome
}

// Answer returns the reply to a command; open is the number of connections to
// the control port.
func (a Answers) Answer(ctx context.Context, c Command, open int) string {
	switch {
	case c.Cut && len(c.Args) > 0:
		return replyParameters + fmt.Sprintf("REASON: the command has more than %d bytes.\n", commandBytesMax)
	case c.Cut:
		return Unknown(c) // of a word that long there is none
	case c.Name == "VERSION":
		return a.Version + "\n"
	case c.Name == "SELFSTATUS":
		s := a.Self()
		s.OnControlPort = open
		return s.String()
	case c.Name == "ALLSTATUS":
		return a.All().String()
	case c.Name == "DUMP":
		return a.Dump().String()
	case c.Name == "TRACEVIEW":
		return a.Trace.view(c.Args)
	}
	_, changing := changes[c.Name]
	tracing := c.Name == "TRACE"
	switch {
	case !changing && !tracing:
		return Unknown(c)
	case c.ReadOnly:
		return replyReadOnly + "REASON: " + reasonReadOnly + ".\n"
	case tracing:
		return a.Trace.set(c.Args)
	}
	return a.change(ctx, c)
}

// change returns the reply to a command that changes the ring.
func (a Answers) change(ctx context.Context, c Command) string {
	if reply := changes[c.Name].onSlave; a.Slave && reply != "" {
		return reply
	}
	what, reply := c.parse(a.IDType)
	if reply != "" {
		return reply
	}
	return a.Change(ctx, what).Reply(c.Name)
}
