package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The tables of docs/config.md list exactly the keys that the code reads.
func TestConfigDoc(t *testing.T) {
	const file, begin, end = "../docs/config.md", "<!-- keys: written by go test ./config -run TestConfigDoc -update -->\n", "<!-- end of keys -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), begin)
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("%s lacks the lines %q and %q", file, begin, end)
	}
	want := head + begin + keyTables() + end + tail
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not in step with Keys; run go test ./config -run TestConfigDoc -update", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// keyTables prints one table for each section, and one of the keys that do nothing.
func keyTables() string {
	var b strings.Builder
	var idle []Key
	var section string
	cell := strings.NewReplacer("|", `\|`)
	row := func(k Key, last ...string) {
		fmt.Fprintf(&b, "| %s | %s | %s |", k.Name, cell.Replace(k.Type), cell.Replace(k.Default))
		for _, l := range last {
			fmt.Fprintf(&b, " %s |", cell.Replace(l))
		}
		b.WriteByte('\n')
	}
	for _, k := range Keys() {
		if k.Effect == noEffect {
			idle = append(idle, k)
			continue
		}
		if k.Section != section {
			section = k.Section
			head, rule := "", ""
			if section == sectionGlobal {
				head, rule = " a change |", "---|"
			}
			fmt.Fprintf(&b, "\n## [%s]\n\n| key | value | default | what it does |%s\n|---|---|---|---|%s\n", section, head, rule)
		}
		switch {
		case section != sectionGlobal:
			row(k, k.Effect)
		case k.Live == liveAll || k.Name == keyInclude:
			row(k, k.Effect, "takes effect")
		case k.Live != "":
			row(k, k.Effect, "takes effect: "+k.Live)
		default:
			row(k, k.Effect, "not while it runs")
		}
	}
	fmt.Fprint(&b, "\n## Without effect\n\nCHMPX's keys that have no meaning here. They are read and checked, so that a\nmistake is found, and do nothing.\n\n| key | value | default | section |\n|---|---|---|---|\n")
	for _, k := range idle {
		row(k, k.Section)
	}
	b.WriteString("\n")
	return b.String()
}

// The samples in docs/config.md load without a word and are the same ring.
func TestConfigDocSamples(t *testing.T) {
	text, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, format := range []string{"ini", "yaml"} {
		_, rest, _ := strings.Cut(string(text), "```"+format+"\n")
		sample, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("no sample of %s", format)
		}
		c, warnings, err := loadText("sample."+format, sample)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: warnings %v, error %v", format, warnings, err)
		}
		if len(c.Servers) != 3 || !c.Slaves[0].Matches("any.example.com") {
			t.Errorf("%s: got %+v", format, c)
		}
		digests = append(digests, c.Digest())
	}
	if digests[0] != digests[1] {
		t.Error("the samples are two rings")
	}
}
