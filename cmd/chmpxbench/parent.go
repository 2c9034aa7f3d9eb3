package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/cmd/internal/options"
)

// endGrace is how long children may take to report after they were told to stop.
const endGrace = 10 * time.Second

var (
	// errLost says that a child ended without a result.
	errLost = errors.New("a child process was lost")
	// errInit says that nothing was measured because a child could not begin.
	errInit = errors.New("could not initialize")
)

// run returns the exit code of the command.
func run(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	code := 0
	app := &cli.App{
		Name: "chmpxbench", Flags: flags(), HideHelp: true, HideVersion: true, HideHelpCommand: true,
		CustomAppHelpTemplate: usage, // urfave/cli prints it for -h
		Writer:                stdout, ErrWriter: stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return &optionError{says: err.Error()} },
		Action: func(c *cli.Context) error {
			s, err := parse(c)
			if err != nil {
				return err
			}
			if c.Bool("child") {
				code = runChild(s, stdout, stderr, signals)
				return nil
			}
			return runParent(s, args, stdout, stderr, signals)
		},
	}
	known, unknown, err := options.Normalize(args, app.Flags)
	if err == nil {
		err = app.Run(append([]string{app.Name}, known...))
	}
	// As CHMPX does, unknown options are passed over: scripts mark processes with them.
	if err != nil && len(unknown) > 0 {
		fmt.Fprintf(stderr, "[WAN] unknown options: %q\n", unknown)
	}
	if err != nil {
		printError(stderr, err)
		return 1
	}
	return code
}

// printError writes what CHMPX says about an error, and below it the reason.
func printError(w io.Writer, err error) {
	says, reason := err.Error(), ""
	var option *optionError
	switch {
	case errors.As(err, &option):
		says, reason = "ERROR: "+option.says, option.reason
	case errors.Is(err, options.ErrNoValue):
		says, reason = "ERROR: An option lacks its value", strings.TrimPrefix(says, options.ErrNoValue.Error()+": ")+" is followed by nothing or by an option"
	case errors.Is(err, errInit):
		says, reason = "Could not initialize internal object/data/etc", strings.TrimPrefix(says, errInit.Error()+": ")
	default:
		says = strings.ToUpper(says[:1]) + says[1:]
	}
	fmt.Fprintf(w, "[ERR] %s.\n", says)
	if reason != "" {
		for line := range strings.SplitSeq(reason, "\n") { // a mistake of the configuration each
			fmt.Fprintf(w, "[ERR] REASON: %s.\n", line)
		}
	}
}

// process is one child as the parent sees it.
type process struct {
	cmd     *exec.Cmd
	orders  *os.File
	reports chan report // closed at the end of the pipe
}

// runParent starts the children, starts them together, adds up and prints.
func runParent(s settings, args []string, stdout, stderr io.Writer, signals <-chan os.Signal) error {
	if s.mergeDump {
		fmt.Fprintln(stderr, "[MSG] -mergedump: there is nothing to dump, this version calls no merge functions")
	}
	meter, err := newMeter(s.pids)
	if err != nil {
		return err
	}
	var children []*process
	defer func() {
		for _, p := range children {
			p.end()
		}
	}()
	for range s.processes {
		p, err := spawn(args, stdout, stderr)
		if err != nil {
			return fmt.Errorf("start a child process: %w", err)
		}
		children = append(children, p)
	}
	limit := time.NewTimer(s.attachTimeout + endGrace)
	defer limit.Stop()
	for _, p := range children {
		rep, err := p.next(signals, limit.C)
		if errors.Is(err, errSignal) {
			return nil // stopped before anything began
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errInit, err)
		}
		if !rep.Ready {
			return nil // a signal stopped the child before it was ready
		}
	}
	meter.start()
	for _, p := range children {
		if _, err := p.orders.Write([]byte{orderStart}); err != nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
	}
	r, err := collect(children, signals)
	if err != nil {
		return err
	}
	spent, ended := meter.stop()
	r.pidsCPU = spent
	for _, pid := range ended {
		fmt.Fprintf(stderr, "[WAN] process %d of -pids ended during the run: its CPU time is not counted\n", pid)
	}
	if s.jsonOut {
		return printJSON(stdout, s, r)
	}
	printResult(stdout, s, r)
	if r.Errors > 0 {
		fmt.Fprintf(stderr, "[ERR] the first error was: %s\n", r.FirstErr)
	}
	return nil
}

// collect adds up the results. The first signal is passed on to all children
// as an order to stop; from then on their time is limited.
func collect(children []*process, signals <-chan os.Signal) (*result, error) {
	total := &result{latency: newHistogram()}
	var limit <-chan time.Time
	for _, p := range children {
		rep, err := p.next(signals, limit)
		if errors.Is(err, errSignal) {
			for _, other := range children {
				_, _ = other.orders.Write([]byte{orderStop}) // who is gone needs no order
			}
			signals, limit = nil, time.After(endGrace)
			rep, err = p.next(nil, limit)
		}
		if err != nil {
			return nil, err
		}
		if rep.Result == nil {
			return nil, fmt.Errorf("%w: no result", errLost)
		}
		if err := rep.Result.unpack(); err != nil {
			return nil, err
		}
		total.add(rep.Result)
	}
	return total, nil
}

// spawn starts a child with the options of this process. It dies with us.
func spawn(args []string, stdout, stderr io.Writer) (*process, error) {
	reportsR, reportsW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, reportsR.Close(), reportsW.Close())
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"-child"}, args...)...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{reportsW, ordersR} // fdReports, fdOrders
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	reportsW.Close()
	ordersR.Close()
	if err != nil {
		return nil, errors.Join(err, reportsR.Close(), ordersW.Close())
	}
	// Room for all that a child reports: ready, and a result or an error.
	p := &process{cmd: cmd, orders: ordersW, reports: make(chan report, 2)}
	go func() { // ends when the child's end of the pipe is closed
		defer close(p.reports)
		defer reportsR.Close()
		for dec := json.NewDecoder(reportsR); ; {
			var rep report
			if dec.Decode(&rep) != nil {
				return
			}
			p.reports <- rep
		}
	}()
	return p, nil
}

var (
	errSignal = errors.New("stopped by a signal")
	errLate   = errors.New("a child process does not answer")
)

// next returns the child's next report.
func (p *process) next(signals <-chan os.Signal, limit <-chan time.Time) (report, error) {
	select {
	case rep, ok := <-p.reports:
		if !ok {
			return rep, errLost
		}
		if rep.Error != "" {
			return rep, errors.New(rep.Error)
		}
		return rep, nil
	case <-signals:
		return report{}, errSignal
	case <-limit:
		return report{}, errLate
	}
}

// end closes the orders, which stops the child, and kills it if it does not end.
func (p *process) end() {
	p.orders.Close()
	timer := time.AfterFunc(endGrace, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	_ = p.cmd.Wait() // its exit code says nothing that its report did not
}
