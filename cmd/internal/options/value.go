package options

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
)

// Explained returns flags, of which those that are switches, numbers and times
// say what they allow when a value cannot be read: urfave/cli says "parse error".
// It knows the types that our commands use; others stay as they are.
func Explained(flags []cli.Flag) []cli.Flag {
	out := make([]cli.Flag, len(flags))
	for i, f := range flags {
		switch f := f.(type) {
		case *cli.BoolFlag:
			out[i] = said{f, func() flag.Value { return newScalar(f.Value, readSwitch) }}
		case *cli.IntFlag:
			out[i] = number(f, int64(f.Value), math.MinInt64, math.MaxInt64)
		case *cli.UintFlag:
			out[i] = number(f, int64(f.Value), 0, math.MaxInt64)
		case *cli.Uint64Flag:
			out[i] = said{f, func() flag.Value { return newScalar(f.Value, readUint64) }}
		case *cli.DurationFlag:
			out[i] = said{f, func() flag.Value { return newScalar(f.Value, readTime) }}
		default:
			out[i] = f
		}
	}
	return out
}

// ExplainAll has the options of commands and of those below them Explained.
func ExplainAll(commands []*cli.Command) {
	for _, c := range commands {
		c.Flags = Explained(c.Flags)
		ExplainAll(c.Subcommands)
	}
}

// Between is a number that must be from low to high.
func Between(f *cli.UintFlag, low, high uint) cli.Flag {
	return number(f, int64(f.Value), int64(low), int64(high))
}

// described is what urfave/cli's flags are.
type described interface {
	cli.DocGenerationFlag
	cli.VisibleFlag
	cli.RequiredFlag
}

// said is a flag with values of our own.
type said struct {
	described
	value func() flag.Value
}

// Apply implements cli.Flag.
func (s said) Apply(set *flag.FlagSet) error {
	if err := s.described.Apply(flag.NewFlagSet("", flag.ContinueOnError)); err != nil { // it notes its default
		return err
	}
	v := s.value() // one for all names
	for _, name := range s.Names() {
		set.Var(v, name, s.GetUsage())
	}
	return nil
}

// scalar is a value that read makes from a text.
type scalar[T any] struct {
	v    T
	read func(string) (T, error)
}

func newScalar[T any](v T, read func(string) (T, error)) *scalar[T] { return &scalar[T]{v, read} }

// Set implements flag.Value.
func (s *scalar[T]) Set(text string) (err error) {
	v, err := s.read(text)
	if err == nil {
		s.v = v
	}
	return err
}

// String implements flag.Value.
func (s *scalar[T]) String() string { return fmt.Sprint(s.v) }

// IsBoolFlag says that a switch needs no value.
func (s *scalar[T]) IsBoolFlag() bool {
	_, is := any(s.v).(bool)
	return is
}

// number is a flag for whole numbers.
func number(f described, v, low, high int64) cli.Flag {
	what := fmt.Sprintf("a whole number from %d to %d", low, high)
	switch {
	case low == math.MinInt64:
		what = "a whole number"
	case high == math.MaxInt64:
		what = fmt.Sprintf("a whole number, %d or more", low)
	}
	return said{f, func() flag.Value {
		return newScalar(v, func(s string) (int64, error) {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil || n < low || n > high {
				return 0, errors.New("use " + what)
			}
			return n, nil
		})
	}}
}

func readSwitch(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, errors.New("use true or false, or the option alone")
	}
	return v, nil
}

func readUint64(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("use a whole number from 0 to %d", uint64(math.MaxUint64))
	}
	return n, nil
}

func readTime(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("use a time with its unit, for example 500ms, 90s or 5m")
	}
	return d, nil
}
