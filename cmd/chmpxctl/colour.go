package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// colours reports whether what is written to w may have colours: it is a
// terminal that has them, and NO_COLOR is not set.
func colours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// The escape sequences are CHMPX's.
const (
	red     = "\x1b[38;5;1m"
	green   = "\x1b[38;5;2m"
	yellow  = "\x1b[38;5;3m"
	blue    = "\x1b[38;5;4m"
	magenta = "\x1b[38;5;5m"
	white   = "\x1b[38;5;7m"
	bold    = "\x1b[1m"
	blink   = "\x1b[5m"
	plain   = "\x1b[0m"

	onRed    = white + "\x1b[48;5;1m"
	onGreen  = white + "\x1b[48;5;2m"
	onYellow = white + "\x1b[48;5;3m"
)

// backgrounds are the same colours behind white text.
var backgrounds = map[string]string{
	red: onRed, green: onGreen, yellow: onYellow, blue: white + "\x1b[48;5;4m", magenta: white + "\x1b[48;5;5m",
}

// wordColours are the colours of the words of a status.
var wordColours = map[string]string{
	"SLAVE": green, "SERVICE OUT": red, "SERVICE IN": green, "UP": green, "DOWN": red,
	"n/a": green, "ADD": yellow, "DELETE": yellow,
	"Nothing": green, "Pending": magenta, "Doing": yellow, "Done": blue,
	"Suspend": red, "NoSuspend": green,
}

// statusColours gives the words of a status in brackets their colours.
var statusColours = func() *strings.Replacer {
	var pairs []string
	for word, colour := range wordColours {
		pairs = append(pairs, "["+word+"]", "["+colour+word+plain+"]")
	}
	return strings.NewReplacer(pairs...)
}()

// paint returns text in a colour, if colours are wanted.
func paint(on bool, colour, text string) string {
	if !on {
		return text
	}
	return colour + text + plain
}
