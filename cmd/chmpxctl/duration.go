package main

import (
	"errors"
	"time"
)

// duration is the value of an option that is a time.
type duration time.Duration

// newDuration returns one with its default.
func newDuration(d time.Duration) *duration { return (*duration)(&d) }

// Set implements flag.Value.
func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("use a time with its unit, for example 500ms, 90s or 5m")
	}
	*d = duration(v)
	return nil
}

// String implements flag.Value.
func (d *duration) String() string { return time.Duration(*d).String() }
