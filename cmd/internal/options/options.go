// Package options reads command lines as CHMPX's commands do: one dash or
// two, names in any case, each option followed by its value, unknown options
// passed over. It turns such a line into one that the flag parser reads. It
// keeps nothing; its functions may be called from any goroutine.
package options

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// ErrNoValue is wrapped when an option that needs a value has none.
var ErrNoValue = errors.New("a value is missing")

// Normalize returns args with every option that flags knows written as
// -name or -name=value, with the flag's first name, and the words that no flag
// knows apart (an unknown option together with the value behind it). An
// option without the value that it needs is an error.
func Normalize(args []string, flags []cli.Flag) (known, unknown []string, err error) {
	names, takesValue := index(flags)
	for i := 0; i < len(args); i++ {
		word := strings.TrimPrefix(strings.TrimPrefix(args[i], "-"), "-")
		if !isOption(args[i]) {
			unknown = append(unknown, args[i])
			continue
		}
		word, value, hasValue := strings.Cut(word, "=")
		name, ok := names[strings.ToLower(word)]
		next := i+1 < len(args) && !isOption(args[i+1])
		switch {
		case !ok:
			unknown = append(unknown, args[i])
			if next && !hasValue {
				i++
			}
		case hasValue: // of a switch, too, which may be wrong
			known = append(known, "-"+name+"="+value)
		case !takesValue[name]:
			known = append(known, "-"+name)
		case next:
			i++
			known = append(known, "-"+name+"="+args[i])
		default:
			return nil, nil, fmt.Errorf("%w: option %s", ErrNoValue, args[i])
		}
	}
	return known, unknown, nil
}

// index maps each name and alias, in lower case, to the flag's first name.
func index(flags []cli.Flag) (names map[string]string, takesValue map[string]bool) {
	names, takesValue = map[string]string{}, map[string]bool{}
	for _, f := range flags {
		all := f.Names()
		for _, alias := range all {
			names[strings.ToLower(alias)] = all[0]
		}
		if d, ok := f.(cli.DocGenerationFlag); ok {
			takesValue[all[0]] = d.TakesValue()
		}
	}
	return names, takesValue
}

// isOption reports whether a word names an option: a dash that does not begin a number.
func isOption(word string) bool {
	if len(word) < 2 || word[0] != '-' {
		return false
	}
	_, err := strconv.ParseFloat(word, 64)
	return err != nil
}
