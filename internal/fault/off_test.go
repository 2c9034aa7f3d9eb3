//go:build !faults

package fault

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Without the tag nothing is on, whatever the environment says, and no call costs memory.
func TestOff(t *testing.T) {
	t.Setenv(EnvBug, string(SkipDedup))
	t.Setenv(EnvCrash, string(SendReserved))
	if Enabled || Bug(SkipDedup) || Every(SkipDedup, 1) || Disk() != nil || Describe() != "" {
		t.Error("a fault is on in a build without the tag")
	}
	if got := Dial("host:1"); got != "host:1" {
		t.Errorf("Dial(host:1) = %q", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		Crash(SendReserved)
		Trace(&Event{What: FrameSent})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A node that is built without the tag does not even know the names of faults.
func TestBinaryHasNoFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	file := filepath.Join(t.TempDir(), "chmpx")
	if out, err := exec.Command("go", "build", "-o", file, "github.com/chmpx/chmpx/cmd/chmpx").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"CHMPX_FAULT_", string(NodeDeliverReserved), string(LoseRecordOnRestart), traceMagic} {
		if bytes.Contains(b, []byte(word)) {
			t.Errorf("the binary contains %q", word)
		}
	}
}
