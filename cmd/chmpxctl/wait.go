package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
)

// waitTick is how often a node is asked whether it is so far.
const waitTick = 200 * time.Millisecond

// state is what can be waited for of a node. An empty word: not known, or of no
// interest.
type state struct {
	Live    string `json:"live"`    // up or down
	Ring    string `json:"ring"`    // servicein, serviceout or slave
	Suspend string `json:"suspend"` // suspend or nosuspend
	Merge   string `json:"merge"`   // its part in a merge: nothing, pending, doing or done; empty: it is no member yet
}

// String returns the words of a state.
func (s state) String() string {
	var words []string
	for _, w := range []string{s.Live, s.Ring, s.Suspend} {
		if w != "" {
			words = append(words, w)
		}
	}
	if s.Merge != "" {
		words = append(words, "merge "+s.Merge)
	}
	return strings.Join(words, ", ")
}

// reached reports whether s is as wanted.
func (s state) reached(want state) bool {
	is := func(have, want string) bool { return want == "" || have == want }
	return is(s.Live, want.Live) && is(s.Ring, want.Ring) && is(s.Suspend, want.Suspend) && is(s.Merge, want.Merge)
}

// want is what to wait for, of whom and for how long.
type want struct {
	state
	of      string        // a server, as host:ctlport; empty: the node that is asked
	timeout time.Duration // 0: until the context ends
}

func waitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "wait", Usage: "wait for the state that the options below name"},
		&cli.StringFlag{Name: "live", Usage: "`up` or down"},
		&cli.StringFlag{Name: "ring", Usage: "`servicein`, serviceout or slave"},
		&cli.BoolFlag{Name: "suspend", Usage: "no server program is attached"},
		&cli.BoolFlag{Name: "nosuspend", Usage: "a server program is attached, or the node is a slave or down"},
		&cli.BoolFlag{Name: "settled", Usage: "it takes part in no merge, and waits for none"},
		&cli.StringFlag{Name: "of", Usage: "`server` whose state counts, as HOST:CTLPORT with its NAME, as the node that is asked sees it"},
		&cli.GenericFlag{Name: "timeout", Value: newDuration(30 * time.Second), Usage: "how long to wait, for example 90s"},
	}
}

// wantOf reads waitFlags; nil: nothing is to be waited for.
func wantOf(c *cli.Context) (*want, error) {
	w := &want{state: state{Live: c.String("live"), Ring: c.String("ring")}, of: c.String("of"), timeout: c.Duration("timeout")}
	switch suspend, nosuspend := c.Bool("suspend"), c.Bool("nosuspend"); {
	case suspend && nosuspend:
		return nil, usagef("status: -suspend or -nosuspend, not both")
	case suspend:
		w.Suspend = "suspend"
	case nosuspend:
		w.Suspend = "nosuspend"
	}
	if c.Bool("settled") {
		w.Merge = "nothing"
	}
	switch {
	case !c.Bool("wait"):
		for _, name := range []string{"live", "ring", "suspend", "nosuspend", "settled", "of", "timeout"} {
			if c.IsSet(name) {
				return nil, usagef("status: -%s goes with -wait", name)
			}
		}
		return nil, nil
	case w.state == state{}:
		return nil, usagef("status: -wait for what? add -live, -ring, -suspend, -nosuspend or -settled")
	case w.timeout <= 0:
		return nil, usagef("status: -timeout %s: a time above 0 is needed, for example 90s", w.timeout)
	}
	if at := strings.LastIndexByte(w.of, ':'); w.of != "" {
		if _, err := parsePort(w.of[at+1:]); err != nil || at < 1 {
			return nil, usagef("status: -of %q: HOST:CTLPORT is needed, with a port from 1 to 65535", w.of)
		}
	}
	return w, w.check()
}

// check says which word of a state does not exist.
func (s state) check() error {
	if s.Live != "" && s.Live != "up" && s.Live != "down" {
		return usagef("status: -live %q: use up or down", s.Live)
	}
	if s.Ring != "" && s.Ring != "servicein" && s.Ring != "serviceout" && s.Ring != "slave" {
		return usagef("status: -ring %q: use servicein, serviceout or slave", s.Ring)
	}
	return nil
}

// waitAnswer is how a wait ended.
type waitAnswer struct {
	OK   bool   `json:"ok"`
	Node string `json:"node"` // whose state it is
	state
	Error string `json:"error,omitempty"`
}

func (a waitAnswer) print(w io.Writer, _ bool) error {
	if !a.OK { // the error says it
		return nil
	}
	_, err := fmt.Fprintf(w, "%s is %s\n", a.Node, a.state)
	return err
}

// wait asks t until the state is reached, the time is over or ctx ends.
func (w *want) wait(ctx context.Context, t target) (answer, error) {
	a := waitAnswer{Node: cmp.Or(w.of, t.String())}
	last := func() string { return "" } // why the state is not known
	err := poll(ctx, w.timeout, func(ctx context.Context) (bool, error) {
		s, err := stateAt(ctx, t, w.of)
		if err != nil && ctx.Err() == nil {
			last = func() string { return " (" + err.Error() + ")" }
		}
		if err == nil {
			a.state, last = s, func() string { return "" }
			a.OK = s.reached(w.state)
		}
		return a.OK, nil
	})
	if err != nil {
		err = fmt.Errorf("%s is not %s but %s%s: %w", a.Node, w.state, cmp.Or(a.state.String(), "unknown"), last(), err)
		a.Error = err.Error()
	}
	return a, err
}

// poll calls done until it reports true or fails, the time is over (0: no
// limit), which is errTimeout, or ctx ends.
func poll(ctx context.Context, timeout time.Duration, done func(context.Context) (bool, error)) error {
	limited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	for {
		if ok, err := done(limited); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-limited.Done():
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			return fmt.Errorf("%w: %s are over", errTimeout, timeout)
		}
	}
}

// stateAt asks a node for the state of a server, or with "" for its own.
func stateAt(ctx context.Context, t target, of string) (state, error) {
	st, _, err := ringview.Fetch(ctx, t.host, t.ctlPort)
	switch {
	case of == "" && errors.Is(err, ringview.ErrNotReached) && ctx.Err() == nil:
		return state{Live: "down"}, nil
	case err != nil:
		return state{}, err
	}
	return stateOf(st, of)
}

// stateOf takes the state of a server, with "" that of the node itself, out of
// the status of a node.
func stateOf(st controlplane.Status, of string) (state, error) {
	for _, s := range st.Servers {
		if of == "" && s.ID == st.ID || of == fmt.Sprintf("%s:%d", s.Name, s.CtlPort) {
			return serverState(s), nil
		}
	}
	switch {
	case of != "":
		return state{}, fmt.Errorf("the ring has no server %s", of)
	case st.Role == "slave":
		return state{"up", "slave", "nosuspend", "nothing"}, nil
	case st.Programs == 0: // no member yet, so it cannot take part in a merge
		return state{"up", "serviceout", "suspend", ""}, nil
	}
	return state{"up", "serviceout", "nosuspend", ""}, nil
}

func serverState(s controlplane.ServerStatus) state {
	out := state{"down", "serviceout", "nosuspend", s.Operate}
	if s.Up {
		out.Live = "up"
	}
	if s.Service == "in" {
		out.Ring = "servicein"
	}
	if s.Suspended {
		out.Suspend = "suspend"
	}
	return out
}
