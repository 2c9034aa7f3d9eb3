package run

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chmpx/chmpx/testcluster/check"
)

// bin is where TestMain has built the commands, with faults.
var bin string

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "chmpx-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	cmd := exec.Command("go", "build", "-tags", "faults", "-o", bin, "./cmd/chmpx", "./cmd/chmpx-testcluster")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the commands: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func short(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real processes")
	}
	return Options{Servers: 3, Slaves: 1, Replica: 1, Faults: "all", Rounds: 1, Round: 8 * time.Second, Seed: 1, Rate: 300, Operators: 1, OperatorRest: DefaultRest, Gap: DefaultGap,
		Bin: bin, Self: filepath.Join(bin, "chmpx-testcluster"), ReportDir: t.TempDir(), Out: t.Output()}
}

// A round of faults, in which servers stand in for each other, ends with nothing violated, a
// report and the schedule that was run, and nothing is left behind.
func TestRun(t *testing.T) {
	o := short(t)
	var out bytes.Buffer
	o.Out, o.StandInAfter = &out, time.Second
	if err := Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	rec, err := ReadRecorded(o.ReportDir)
	if err != nil || len(rec.Schedules) != 1 || len(rec.Schedules[0]) == 0 || rec.Seed != o.Seed {
		t.Errorf("recorded %+v, %v", rec, err)
	}
	if !strings.Contains(o.Command(), "--stand-in-after 1s") {
		t.Errorf("the command says nothing of stand-ins: %s", o.Command())
	}
	for _, want := range []string{"seed 1", o.Command(), "nothing was violated"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	for _, file := range []string{reportText, reportHTML} {
		if info, err := os.Stat(filepath.Join(o.ReportDir, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// What is wrong on purpose is found, what the round has left is kept, and
// judging that again finds the same.
func TestRunFindsBug(t *testing.T) {
	o := short(t)
	o.Bug, o.Faults, o.Operators = "reuse-incarnation", "kill-server", 0
	if err := Run(t.Context(), o); !errors.Is(err, ErrViolated) {
		t.Fatalf("%v, want broken promises", err)
	}
	rep, err := Rejudge(filepath.Join(o.ReportDir, "round-00"))
	if err != nil || rep.Count[check.Incarnation] == 0 {
		t.Errorf("judged again: %v, violations %v", err, rep.Count)
	}
}
