package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/chmpx/chmpx/controlplane"
)

// merging is exampleRing with a merge that takes b in.
func merging(phase string) controlplane.Status {
	st := exampleRing()
	st.Servers[1].Action, st.Servers[1].Operate = "add", "done"
	st.Merge = &controlplane.MergeStatus{ID: 40, Phase: phase}
	return st
}

func merged() controlplane.Status {
	st := exampleRing()
	st.Epoch.Index = 50
	return st
}

// merge complete returns when the merge has ended, and says how.
func TestMergeComplete(t *testing.T) {
	aborted := exampleRing()
	aborted.Servers[1].Action, aborted.Servers[1].Operate = "add", "pending"
	lost := aborted // and somebody went down meanwhile
	lost.Epoch.Index = 50
	for name, c := range map[string]struct {
		statuses []controlplane.Status
		options  string
		code     int
		want     string // in the output, or the error
	}{
		"done":      {[]controlplane.Status{merging("copying"), merging("sealed"), merging("sealed"), merged()}, "", exitDone, "SUCCEED"},
		"at once":   {[]controlplane.Status{merging("copying"), merged()}, "", exitDone, "SUCCEED"},
		"nothing":   {[]controlplane.Status{exampleRing()}, "", exitDone, "SUCCEED"},
		"aborted":   {[]controlplane.Status{merging("copying"), merging("sealed"), aborted}, "", exitFailed, "it was aborted"},
		"lost":      {[]controlplane.Status{merging("copying"), lost}, "", exitFailed, "it was aborted: b:8021 is"},
		"unsealed":  {[]controlplane.Status{merging("copying"), merging("sealed"), merging("copying")}, "", exitFailed, "copied further"},
		"no end":    {[]controlplane.Status{merging("copying"), merging("sealed")}, "-timeout 10ms", exitTimeout, "10ms are over"},
		"not asked": {[]controlplane.Status{merging("copying")}, "-no-wait", exitDone, "SUCCEED"},
		"no time":   {[]controlplane.Status{merging("copying")}, "-timeout 0s", exitUsage, "above 0"},
	} {
		s := newScripted(t, map[string]string{"COMPMERGE": "SUCCEED\n"}, c.statuses...)
		out, err := s.run(t, "merge complete", strings.Fields(c.options)...)
		if err != nil {
			out += err.Error()
		}
		if exitCode(err) != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: code %d, want %d with %q: %s", name, exitCode(err), c.code, c.want, out)
		}
		if sent := s.sent(); c.code != exitUsage && !slices.Equal(sent, []string{"COMPMERGE"}) {
			t.Errorf("%s: sent %q", name, sent)
		}
	}
	s := newScripted(t, map[string]string{"COMPMERGE": "SUCCEED\n"}, merging("copying"), aborted)
	out, err := s.run(t, "merge complete", "-json")
	var a commandAnswer
	if json.Unmarshal([]byte(out), &a) != nil || exitCode(err) != exitFailed || a.OK || a.Reply.Reply != "SUCCEED" || !strings.Contains(a.Error, "aborted") {
		t.Errorf("-json: %v\n%s", err, out)
	}
}

// Without a quorum the refusal is the command's; a command that was taken by a
// ring that could not be asked before is not said to be done.
func TestMergeCompleteUnknown(t *testing.T) {
	s := newScripted(t, map[string]string{"COMPMERGE": "ERROR: Failed to complete merging.\nREASON: no quorum\n"}, exampleRing())
	s.mu.Lock()
	s.code = 503
	s.mu.Unlock()
	if _, err := s.run(t, "merge complete"); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("refused: %v", err)
	}
	s.answer("COMPMERGE", "SUCCEED\n")
	if _, err := s.run(t, "merge complete"); err == nil || !strings.Contains(err.Error(), "is not known") {
		t.Errorf("taken: %v", err)
	}
}
