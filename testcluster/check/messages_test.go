package check

import "testing"

// What is accepted is taken in the end, unless its sender was told or program
// and node of the sender have ended.
func TestKept(t *testing.T) {
	runScenes(t, []sceneCase{
		{"taken", func(s *scene) { s.send(10, 1); s.add("r1", 12, Taken, 1) }, nil},
		{"never taken", func(s *scene) { s.send(10, 1) }, []Clause{Kept}},
		{"not accepted", func(s *scene) { s.add("p", 10, Sending, 1); s.add("p", 11, Refused, 1) }, nil},
		{"reported", func(s *scene) { s.send(10, 1); s.add("p", 20, Failed, 1) }, nil},
		{"perhaps reported", func(s *scene) { s.send(10, 1); s.add("p", 20, MaybeFailed, 1) }, nil},
		{"only its sender has ended", func(s *scene) { s.send(10, 1); s.end("p", 20, true) }, []Clause{Kept}},
		{"only its sender's node has ended", func(s *scene) { s.send(10, 1); s.end("c1", 20, true); s.start("c1", 30) }, []Clause{Kept}},
		{"sender, then its node", func(s *scene) { s.send(10, 1); s.end("p", 20, true); s.end("c1", 30, true); s.start("c1", 40) }, nil},
		{"node, then its sender while there is none", func(s *scene) {
			s.send(10, 1)
			s.end("c1", 20, true)
			s.end("p", 30, true)
			s.start("c1", 40)
		}, nil},
		{"node, then its sender when there is one again", func(s *scene) {
			s.send(10, 1)
			s.end("c1", 20, true)
			s.start("c1", 30)
			s.send(40, 2)
			s.add("r1", 50, Taken, 2)
			s.end("p", 60, true)
		}, []Clause{Kept}},
	})
}
