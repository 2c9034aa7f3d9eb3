package ctlport

import (
	"fmt"
	"strings"
)

// Command is a text command as it came in.
type Command struct {
	Name string   // upper case: names are case-insensitive
	Word string   // the name as it was sent
	Args []string // the other words, as sent; empty ones stay
}

// ParseCommand splits a command line. Words are separated by one blank, tab,
// CR or LF each, so a leading blank makes an empty name; what follows a NUL
// is not read.
func ParseCommand(line []byte) Command {
	s, _, _ := strings.Cut(string(line), "\x00")
	var words []string
	for {
		i := strings.IndexAny(s, " \t\r\n")
		if i < 0 {
			words = append(words, s)
			break
		}
		words = append(words, s[:i])
		s = s[i+1:]
	}
	return Command{Name: strings.ToUpper(words[0]), Word: words[0], Args: words[1:]}
}

// Unknown is the answer to a command that does not exist.
func Unknown(c Command) string { return fmt.Sprintf("Unknown command(%s)\n", c.Word) }

// Commands returns the Command function of a node that knows VERSION and
// answers it with version.
func Commands(version string) func(Command) string {
	return func(c Command) string {
		if c.Name == "VERSION" {
			return version + "\n"
		}
		return Unknown(c)
	}
}
