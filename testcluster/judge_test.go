package testcluster

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Each count of a verdict finds what it is for, and nothing else.
func TestJudge(t *testing.T) {
	const ms = int64(time.Millisecond)
	asked := []Asked{
		{Key: 1, N: 0, DueNs: 1 * ms, AnsweredNs: 2 * ms, By: 'a'},
		{Key: 2, N: 0, DueNs: 1 * ms, AnsweredNs: 2 * ms, By: 'b'},
		{Key: 1, N: 1, DueNs: 11 * ms, AnsweredNs: 31 * ms, By: 'b'}, // a was killed at 10
		{Key: 2, N: 1, DueNs: 11 * ms, AnsweredNs: 12 * ms, By: 'b'},
		{Key: 1, N: 2, DueNs: 21 * ms},
	}
	taken := []Taken{
		{Key: 1, N: 0, AtNs: 1}, {Key: 1, N: 0, AtNs: 5, MaybeRepeat: true}, {Key: 1, N: 0, AtNs: 6}, // repeated, once unmarked
		{Key: 2, N: 1, AtNs: 3}, {Key: 2, N: 0, AtNs: 4}, // wrong order
		{Key: 1, N: 1, AtNs: 7},
	}
	got := Judge(asked, taken, 'a', 10*ms)
	got.P50, got.P99, got.Rate = 0, 0, 0
	want := Verdict{
		Sent: 5, Answered: 4, Lost: 1, Repeated: 1, Unmarked: 1, WrongOrder: 1,
		By: map[byte]int{'a': 1, 'b': 3}, Failover: 21 * time.Millisecond,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Judge: -want +got\n%s", d)
	}
}

// Records come back from their file as they were written, also none at all.
func TestRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "records")
	for _, want := range [][]Asked{{}, {{Key: 1, N: 2, DueNs: 3, AnsweredNs: 4, By: 'a', MaybeRepeat: true}, {Key: 5}}} {
		if err := writeRecords(file, want); err != nil {
			t.Fatal(err)
		}
		got, err := readRecords[Asked](file)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("readRecords: %v, -want +got\n%s", err, d)
		}
	}
}
