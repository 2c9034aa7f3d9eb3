package config

import (
	"runtime"
	"strings"
	"testing"
)

// What all NAMEs of a configuration stand for together is bounded, whatever
// its sections say one by one: a small file costs little.
func TestNamesTogether(t *testing.T) {
	const head = "[GLOBAL]\nFILEVERSION=1\nGROUP=G\nDELIVERMODE=hash\nPORT=1\nCTLPORT=2\nMAXCHMPX=32768\n[SVRNODE]\nNAME=a\n[SLVNODE]\nNAME=b\n"
	letters := strings.Repeat("ab|ca|", 80)
	for name, text := range map[string]string{
		"the same servers":    strings.Repeat("[SVRNODE]\nNAME=[1-30000]\n", 20_000),
		"the same slaves":     strings.Repeat("[SLVNODE]\nNAME=[1-30000]\n", 20_000),
		"regular expressions": strings.Repeat("[SLVNODE]\nNAME=("+letters+"c){999}\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := loadText("a.ini", head+text)
			if err == nil || !strings.Contains(err.Error(), "all NAMEs together") {
				t.Errorf("got %.200v, want an error about all NAMEs together", err)
			}
			runtime.ReadMemStats(&after)
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 2048 { // 100 to 950; the names alone would be 10,000
				t.Errorf("%d MiB were allocated on the way", mib)
			}
		})
	}
}

// One NAME that is too much is refused, for slaves as well: it is not taken
// for a regular expression with another meaning.
func TestNameTooMuch(t *testing.T) {
	for name, want := range map[string]string{
		"s[1-100000]":                    "more than 32768 names",
		"s[1-200][1-200]":                "more than 32768 names",
		"(" + strings.Repeat("a", 2000):  "", // no NAME at all
		strings.Repeat("x|", 2000) + "x": "a regular expression has at most 1024 bytes",
	} {
		if _, err := readPattern(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", name, err, want)
		}
	}
}
