package fsm

import (
	"testing"

	"pgregory.net/rapid"
)

// A merge that an entry starts is running after that entry, whatever state the
// ring is in: were its ground missing from the beginning, it would be planned,
// started and dropped again for ever, an entry of the log each.
func TestWhatStartsRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.s.params.AutoMerge, w.replica.params.AutoMerge = true, true
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.step(w.draw())
			for range 10 {
				v := w.s.View()
				v.SuspendMerge, v.MergeHeld = false, false
				c, ok := NextMergeStep(v, w.nowUs)
				if !ok || operating(v.Merge) {
					break
				}
				w.do(c.Body)
				if _, started := c.Body.(MergeStart); started && !operating(w.s.View().Merge) {
					t.Fatalf("merge was started and dropped by the same entry: %+v", w.s.View().Table.Servers)
				}
			}
			w.replica = New()
			if err := w.replica.Restore(w.s.Snapshot()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
