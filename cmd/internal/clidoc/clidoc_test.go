package clidoc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// example has verbs of two levels, options with and without a value, and a
// verb that nobody shall see.
var example = Command{
	Name: "some-tool", Section: 1, Summary: "does some things", Detail: "One.\n.two\n\n'three' \\",
	Flags: []cli.Flag{&cli.BoolFlag{Name: "v"}},
	Verbs: []*cli.Command{
		{Name: "show", Usage: "show it's state", Flags: []cli.Flag{&cli.StringFlag{Name: "conf", Aliases: []string{"f"}, Usage: "a `file` of it"}, &cli.StringFlag{Name: "child", Hidden: true}}},
		{Name: "merge", Usage: "merge", Subcommands: []*cli.Command{
			{Name: "start", Flags: []cli.Flag{&cli.BoolFlag{Name: "json"}}}, {Name: "stop"}, {Name: "secret", Hidden: true}}},
	},
}

// bash completes verbs and options of the place where one is, and files behind
// an option that takes a value.
func TestBash(t *testing.T) {
	file := filepath.Join(t.TempDir(), "completion")
	if err := os.WriteFile(file, []byte(example.Bash()), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"":                   "show merge -v -h",
		"s":                  "show",
		"merge ":             "start stop -h",
		"merge st":           "start stop",
		"merge start -":      "-json -h",
		"show -":             "-conf -f -h",
		"show -f ":           "", // files
		"show -conf show -c": "-conf",
		"nothing ":           "",
	} {
		script := `. "$0"; COMP_WORDS=(some-tool $1); [[ $1 != *' ' && -n $1 ]] || COMP_WORDS+=(''); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _some_tool; echo "${COMPREPLY[*]}"`
		out, err := exec.Command("bash", "-c", script, file, line).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("behind %q bash offers %q (%v), want %q", line, got, err, want)
		}
	}
}

// zsh and fish accept what is made for them, where they are installed; fish
// offers what is possible at a place.
func TestZshAndFish(t *testing.T) {
	dir := t.TempDir()
	for shell, text := range map[string]string{"zsh": example.Zsh(), "fish": example.Fish()} {
		file := filepath.Join(dir, shell)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"show", "start", "stop", "json"} {
			if !strings.Contains(text, word) || strings.Contains(text, "secret") {
				t.Errorf("%s: without %s, or with what is hidden:\n%s", shell, word, text)
			}
		}
		if path, err := exec.LookPath(shell); err == nil {
			if out, err := exec.Command(path, "-n", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", shell, err, out)
			}
		}
	}
	if fish, err := exec.LookPath("fish"); err == nil {
		out, err := exec.Command(fish, "--no-config", "-c", "source "+filepath.Join(dir, "fish")+"; complete -C 'some-tool merge '").CombinedOutput()
		if got := string(out); err != nil || !strings.Contains(got, "start") || strings.Contains(got, "show") {
			t.Errorf("behind merge fish offers %q (%v)", got, err)
		}
	}
}

// A manual page has its sections, and text that looks like a request stays text.
func TestMan(t *testing.T) {
	man := example.Man()
	for _, want := range []string{".TH SOME\\-TOOL 1\n", "some\\-tool \\- does some things\n", ".PP\nOne.\n\\&.two\n.PP\n\\&'three' \\e\n",
		".SS some\\-tool merge start\n", "\\fB\\-conf\\fR, \\fB\\-f\\fR \\fIfile\\fR\na file of it\n"} {
		if !strings.Contains(man, want) {
			t.Errorf("no %q in\n%s", want, man)
		}
	}
	if with := (Command{Name: "x", Text: "\nUsage: x -y\n"}).Man(); !strings.Contains(with, ".nf\nUsage: x \\-y\n.fi\n") {
		t.Errorf("a usage text becomes\n%s", with)
	}
}
