package ring

import (
	"encoding/json"
	"strings"
	"testing"
)

// A HexID is text in JSON, in the form that an ID is printed, whatever its size; what
// is no id is refused.
func TestHexID(t *testing.T) {
	for id, want := range map[HexID]string{0: `"0000000000000000"`, 0xab: `"00000000000000ab"`, 1<<64 - 1: `"ffffffffffffffff"`} {
		b, err := json.Marshal(id)
		if err != nil || string(b) != want || strings.Trim(want, `"`) != ID(id).String() {
			t.Errorf("%d: %s, %v, want %s", uint64(id), b, err, want)
		}
		var back HexID
		if err := json.Unmarshal(b, &back); err != nil || back != id {
			t.Errorf("%s: %v, %v", b, back, err)
		}
	}
	for _, bad := range []string{`""`, `"g"`, `"-1"`, `"0x1"`, `"11112222333344445"`, `7`} {
		var id HexID
		if err := json.Unmarshal([]byte(bad), &id); err == nil || id != 0 {
			t.Errorf("%s: %v, %v", bad, id, err)
		}
	}
}
