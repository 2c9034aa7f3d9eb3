package ctlport

import (
	"fmt"
	"slices"
	"strings"
)

// Command is a text command as it came in.
type Command struct {
	Name string   // upper case: names are case-insensitive
	Word string   // the name as it was sent; empty: nothing but separators came
	Args []string // the other words, as sent
	Cut  bool     // more came than a command may have: it is not to be executed
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
// from many goroutines at once and must not block.
type Answers struct {
	Version string // what VERSION prints
	Slave   bool
	Self    func() Self // what SELFSTATUS shows; OnControlPort comes from the port
	All     func() All  // what ALLSTATUS shows
}

// Commands that CHMPX has. serverOnly are those that a slave refuses.
var (
	serverOnly = []string{"SERVICEIN", "SUSPENDMERGE", "NOSUSPENDMERGE", "UPDATESTATUS"}
	elsewhere  = []string{"SERVICEOUT", "MERGE", "ABORTMERGE", "COMPMERGE", "DUMP", "TRACE", "TRACEVIEW"}
)

// Replies, in CHMPX's words.
const (
	replyWrongParameters = "ERROR: Parameters are wrong.\n"
	replySlave           = "ERROR: The command can not be executed on the slave node.\n"
)

// Answer returns the reply to a command; open is the number of connections to
// the control port.
func (a Answers) Answer(c Command, open int) string {
	switch {
	case c.Cut && len(c.Args) > 0:
		return replyWrongParameters + fmt.Sprintf("REASON: the command has more than %d bytes.\n", commandBytesMax)
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
	case a.Slave && slices.Contains(serverOnly, c.Name):
		return replySlave
	case slices.Contains(serverOnly, c.Name) || slices.Contains(elsewhere, c.Name):
		return fmt.Sprintf("ERROR: %s is not available in this version.\n", c.Name)
	}
	return Unknown(c)
}
