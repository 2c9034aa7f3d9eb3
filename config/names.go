package config

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode"
)

// namesMax bounds what one NAME may stand for: CHMPX's upper limit of nodes.
const namesMax = 32768

// itemBytesMax bounds one element of a NAME, and so the memory of its product.
const itemBytesMax = 512

// stepsMax bounds what all NAMEs of a configuration stand for together: names,
// and steps of regular expressions.
const stepsMax = 1 << 20

var errManyNames = fmt.Errorf("more than %d names", namesMax)

var errRange = errors.New("a range in [] is like 1-5, a-z or A-Z and goes upwards")

// checkHost says whether s can be the name or the address of a host.
func checkHost(s string) error {
	bad := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(".-_:%", r)
	}
	if s == "" || len(s) > 255 || strings.ContainsFunc(s, bad) {
		return fmt.Errorf("%s is not a host name or address", clip(s))
	}
	return nil
}

// expand returns the names that a NAME stands for, in the order of the text:
// a comma list in which [a,b], [1-5] and [a-z] multiply out. Blanks do not count.
func expand(pattern string) ([]string, error) {
	pattern = strings.Join(strings.Fields(pattern), "")
	items, err := splitOutside(pattern)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, item := range items {
		all, err := expandItem(item)
		if err != nil {
			return nil, err
		}
		if names = append(names, all...); len(names) > namesMax {
			return nil, errManyNames
		}
	}
	for _, name := range names {
		if err := checkHost(name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// splitOutside splits at the commas that are not inside brackets.
func splitOutside(s string) ([]string, error) {
	var items []string
	start, depth := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '[':
			depth++
		case s[i] == ']':
			depth--
		case s[i] == ',' && depth == 0:
			items = append(items, s[start:i])
			start = i + 1
		}
		if depth < 0 || depth > 1 {
			return nil, errors.New("brackets come in pairs [...], not inside each other")
		}
	}
	if depth != 0 {
		return nil, errors.New("a [ without ]")
	}
	return append(items, s[start:]), nil
}

// expandItem multiplies out the brackets of one element of a list.
func expandItem(item string) ([]string, error) {
	if len(item) > itemBytesMax {
		return nil, fmt.Errorf("an element of more than %d bytes", itemBytesMax)
	}
	names := []string{""}
	for item != "" {
		before, rest, found := strings.Cut(item, "[")
		choices := []string{""}
		if found {
			var inside string
			var err error
			inside, item, _ = strings.Cut(rest, "]")
			if choices, err = expandChoices(inside); err != nil {
				return nil, err
			}
		} else {
			item = ""
		}
		if len(names)*len(choices) > namesMax {
			return nil, errManyNames
		}
		next := make([]string, 0, len(names)*len(choices))
		for _, name := range names {
			for _, choice := range choices {
				next = append(next, name+before+choice)
			}
		}
		names = next
	}
	return names, nil
}

// expandChoices returns what one pair of brackets stands for.
func expandChoices(inside string) ([]string, error) {
	var all []string
	for _, choice := range strings.Split(inside, ",") {
		from, to, isRange := strings.Cut(choice, "-")
		switch {
		case choice == "":
			return nil, errors.New("an empty element in []")
		case !isRange:
			all = append(all, choice)
		default:
			some, err := expandRange(from, to)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		if len(all) > namesMax {
			return nil, errManyNames
		}
	}
	return all, nil
}

// expandRange counts from one end to the other; numbers lose leading zeros, as in CHMPX.
func expandRange(from, to string) ([]string, error) {
	a, errA := strconv.ParseUint(from, 10, 31)
	b, errB := strconv.ParseUint(to, 10, 31)
	if errA == nil && errB == nil {
		if a > b {
			return nil, errRange
		}
		if b-a >= namesMax {
			return nil, errManyNames
		}
		all := make([]string, 0, b-a+1)
		for n := a; n <= b; n++ {
			all = append(all, strconv.FormatUint(n, 10))
		}
		return all, nil
	}
	if len(from) != 1 || len(to) != 1 || from > to || !sameCase(from[0], to[0]) {
		return nil, errRange
	}
	var all []string
	for c := from[0]; c <= to[0]; c++ {
		all = append(all, string(rune(c)))
	}
	return all, nil
}

func sameCase(a, b byte) bool {
	lower := func(c byte) bool { return c >= 'a' && c <= 'z' }
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	return lower(a) && lower(b) || upper(a) && upper(b)
}

// compilePattern reads the NAME of an [SLVNODE]: the hosts it lists, and the
// regular expression it is; one of the two may be nil.
func compilePattern(pattern string) ([]string, *regexp.Regexp, error) {
	names, errNames := expand(pattern)
	if errors.Is(errNames, errManyNames) {
		return nil, nil, errNames
	}
	var re *regexp.Regexp
	if len(pattern) <= textBytesMax {
		re, _ = regexp.CompilePOSIX(pattern)
	}
	switch {
	case names == nil && re == nil && len(pattern) > textBytesMax:
		return nil, nil, fmt.Errorf("use a list of hosts like a,b[1-3]; a regular expression has at most %d bytes", textBytesMax)
	case strings.TrimSpace(pattern) == "" || names == nil && re == nil:
		return nil, nil, errors.New("use a list of hosts like a,b[1-3] or a POSIX regular expression")
	}
	return names, re, nil
}

// stepsOf returns how large a regular expression is when it is compiled, 0 for nil.
func stepsOf(re *regexp.Regexp) int {
	if re == nil {
		return 0
	}
	tree, err := syntax.Parse(re.String(), syntax.POSIX)
	if err != nil {
		return 0 // not when it is a *regexp.Regexp of CompilePOSIX
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0
	}
	return len(program.Inst)
}
