package testcluster

import "testing"

// No port is given twice, and what is given can be listened on.
func TestFreePorts(t *testing.T) {
	seen := map[uint16]bool{}
	for range 3 {
		given, err := FreePorts(blockPorts - 10)
		must(t, err)
		for _, p := range given {
			if seen[p] || p < portLeast || p >= portMost {
				t.Errorf("port %d, given before: %v", p, seen[p])
			}
			seen[p] = true
		}
	}
}
