package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/chmpx/chmpx/controlplane"
	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/ring"
)

// mergeCommands start and end merges, and switch AUTOMERGE.
func mergeCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "merge", Usage: "start, complete or abort a merge",
			Description: "SUCCEED means that the command is in the ring's log. \"merge complete\" goes on until the\n" +
				"merge has ended; \"chmpxctl status\" shows how far it is.",
			Subcommands: []*cli.Command{
				ringVerb("start", "start the merge: data is copied, the owners serve on", "MERGE"),
				mergeCompleteCommand(),
				ringVerb("abort", "end the merge, or take a SERVICEOUT back", "ABORTMERGE"),
			},
			HideHelpCommand: true,
			Action: func(c *cli.Context) error { // help alone would pass for a merge that was started
				if c.NArg() > 0 {
					return usagef("unknown command \"merge %s\"; chmpxctl merge -h lists them", c.Args().First())
				}
				return usagef("merge: what of it? write merge start, merge complete or merge abort")
			},
		},
		ringVerb("suspend", "have the ring ignore AUTOMERGE", "SUSPENDMERGE"),
		ringVerb("nosuspend", "have the ring heed AUTOMERGE again", "NOSUSPENDMERGE"),
	}
}

func mergeCompleteCommand() *cli.Command {
	return &cli.Command{
		Name: "complete", Usage: "let the slots change hands, once all servers are Done, and wait until they have",
		Flags: append(commandFlags(),
			&cli.BoolFlag{Name: "force", Usage: "go on without data that only servers have which are down or without program; it is lost"},
			noWaitFlag(),
			&cli.GenericFlag{Name: "timeout", Value: newDuration(time.Minute), Usage: "how long to wait, for example 90s"}),
		Action: answering("merge complete", func(c *cli.Context) (answer, error) {
			if c.Duration("timeout") <= 0 {
				return nil, usagef("merge complete: -timeout %s: a time above 0 is needed, for example 90s", c.Duration("timeout"))
			}
			command := "COMPMERGE"
			if c.Bool("force") {
				command = "COMPMERGE FORCE"
			}
			if c.Bool("no-wait") {
				return sendCommand(c, command)
			}
			return completeMerge(c, command)
		}),
	}
}

// sendAndAwait sends a command as it is given and waits, at most for limit, until
// what it asked for is so. after gets the ring before it and returns what to look
// for in the ring as it is committed, nil: there is nothing to wait for. Errors
// behind the command say with failing that it is in the log.
func sendAndAwait(c *cli.Context, command string, limit time.Duration, unclear string, failing func() string, after func(before controlplane.Status) func(now controlplane.Status) (bool, error)) (answer, error) {
	t, err := targetOf(c)
	if err != nil {
		return nil, err
	}
	before, unknown := committed(c.Context, t)
	sent, err := sendCommand(c, command)
	a, _ := sent.(commandAnswer)
	switch {
	case err != nil:
		return sent, err
	case unknown != nil:
		return a.failed(fmt.Errorf("the command is in the ring's log; %s: %w", unclear, unknown))
	}
	look := after(before)
	if look == nil {
		return sent, nil
	}
	err = poll(c.Context, limit, func(ctx context.Context) (bool, error) {
		now, err := committed(ctx, t)
		if err != nil {
			return false, nil // a leader may be lost meanwhile, or it is the node that restarts; the time is limited
		}
		return look(now)
	})
	if err != nil {
		return a.failed(fmt.Errorf("the command is in the ring's log, but %s: %w", failing(), err))
	}
	return a, nil
}

// saying returns text, whatever happened.
func saying(text string) func() string { return func() string { return text } }

// completeMerge sends COMPMERGE, as it is given, and waits until the merge has ended.
func completeMerge(c *cli.Context, command string) (answer, error) {
	return sendAndAwait(c, command, c.Duration("timeout"), "whether the merge has ended is not known", saying("the merge has not been completed"),
		func(before controlplane.Status) func(controlplane.Status) (bool, error) {
			if before.Merge == nil || before.Merge.ID == 0 { // of nothing there is nothing to wait for
				return nil
			}
			sealed := false
			return func(now controlplane.Status) (bool, error) {
				switch {
				case now.Merge == nil || now.Merge.ID != before.Merge.ID:
					return true, mergeResult(before, now)
				case now.Merge.Phase == ring.MergeSealed.String():
					sealed = true
				case sealed:
					return true, errors.New("the slots could not change hands within the time that they may be closed for; they are copied further: repeat it when all servers are Done")
				}
				return false, nil
			}
		})
}

// mergeResult tells how a merge ended, by the ring before and after it.
func mergeResult(before, after controlplane.Status) error {
	for _, s := range before.Servers {
		for _, now := range after.Servers {
			if now.ID == s.ID && s.Operate == "done" && s.Action != "none" && now.Action == s.Action {
				return fmt.Errorf("it was aborted: %s:%d is %s", s.Name, s.CtlPort, now.Status)
			}
		}
	}
	if before.Epoch == after.Epoch {
		return errors.New("it was aborted")
	}
	return nil
}

// committed asks a node for the ring with everything in it that is committed.
func committed(ctx context.Context, t target) (controlplane.Status, error) {
	var st controlplane.Status
	_, err := ringview.Get(ctx, t.host, t.ctlPort, "/v1/status?consistent=1", &st)
	return st, err
}
