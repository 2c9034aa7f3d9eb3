package story

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	update  = flag.Bool("update", false, "write the outputs of stories, and COMMANDS.md, anew")
	stories = flag.String("stories", "../testdata/*.txt", "files of stories")
)

// TestStories plays every story. Each proves what its first lines say.
func TestStories(t *testing.T) {
	files, err := filepath.Glob(*stories)
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories in %s: %v", *stories, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { Run(t, file, *update) })
	}
}

const commandsHead = `# The commands of stories

One command a line; lines with # are comments; lines that begin with > are what
the command before prints (` + "`go test ./testcluster/story -update`" + ` writes them).
Words in capitals stand for names, options are in any order and may be left out.
A story of your own, anywhere: ` + "`go test ./testcluster/story -stories=/path/to/story.txt`" + `.

At its end each story heals its network and waits until all that was accepted
is taken; then it fails when a message was lost, taken twice without mark, out
of order within its key, or taken although it was refused.
`

// TestCommands proves that the documentation of the commands is theirs.
func TestCommands(t *testing.T) {
	file := filepath.Join("..", "testdata", "COMMANDS.md")
	var want bytes.Buffer
	want.WriteString(commandsHead)
	if err := WriteCommands(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("%s is not what -update writes:\n%s", file, diff)
	}
}

// TestMistakes proves that mistakes in a script are errors that name the line.
func TestMistakes(t *testing.T) {
	for text, says := range map[string]string{
		"# x\nadd-server 3\n":   `line 2: unknown command "add-server"`,
		"add-servers\n":         "line 1: add-servers: 0 words",
		"send nn=3\n":           "line 1: send: unknown option nn",
		"> out\n":               "line 1: output without a command",
		"heal now\n":            "line 1: heal: 1 words",
		"partition a |\n":       "line 1: partition: 2 words",
		"\n\nlinks a b\n":       "line 3: links: 2 words (usage: links NODE)",
		"ring\n# c\n> output\n": "line 3: output without a command",
	} {
		if _, err := parse([]byte(text)); !errors.Is(err, ErrScript) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v; want %s", text, err, says)
		}
	}
}
