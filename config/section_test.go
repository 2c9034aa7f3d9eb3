package config

import "testing"

// A mistyped key is told the one it is most like, also when two letters have
// changed places in a short word; one that is like none is told none.
func TestNearest(t *testing.T) {
	known := []string{"GROUP", "MODE", "PORT", "CTLPORT", "NAME", "DELIVERMODE", "CUK"}
	for word, want := range map[string]string{
		"GRUOP": "GROUP", "MDOE": "MODE", "PROT": "PORT", "NMAE": "NAME", "UCK": "CUK",
		"GROUPS": "GROUP", "GRUP": "GROUP", "GR0UP": "GROUP", "CTLPROT": "CTLPORT", "DELIVER_MODE": "DELIVERMODE", "delivermod": "DELIVERMODE",
		"DELIVERY": "", "NODE": "MODE", "X": "", "": "", "COMPLETELY_DIFFERENT_FROM_ALL": "",
	} {
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if got := nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	if got := nearest("group", known); got != "; write GROUP in upper case" {
		t.Errorf("got %q", got)
	}
}
