//go:build packages || install

package packaging

import (
	"errors"
	"os/exec"
	"testing"
)

// dist is where make packages and make repo put everything.
const dist = "../../dist"

// output runs a tool.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%s %q: %v\n%s", name, args, err, exit.Stderr)
		}
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
