package freeport

import "testing"

// No port is given twice, and what is given can be listened on.
func TestTake(t *testing.T) {
	seen := map[uint16]bool{}
	for range 3 {
		given, err := Take(blockPorts - 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range given {
			if seen[p] || p < portLeast || p >= portMost {
				t.Errorf("port %d, given before: %v", p, seen[p])
			}
			seen[p] = true
		}
	}
}
