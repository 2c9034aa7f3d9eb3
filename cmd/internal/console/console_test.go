package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// session is a console whose commands write down what they were called with.
type session struct {
	*Console
	out  strings.Builder
	errs []string
	did  []string
}

func newSession(input string, change func(*Options)) *session {
	s := &session{}
	note := func(name string) func(context.Context, []string) error {
		return func(_ context.Context, params []string) error {
			s.did = append(s.did, strings.TrimSpace(name+" "+strings.Join(params, "|")))
			return nil
		}
	}
	o := Options{
		Prompt: "T> ", LoopPrompt: "T LOOP", In: strings.NewReader(input), Out: &s.out,
		Commands: []Command{
			{Names: []string{"status", "st"}, Max: 2, Words: []string{"self", "all"}, Run: note("status")},
			{Names: []string{"merge"}, Min: 1, Max: 1, Run: note("merge")},
			{Names: []string{"fail"}, Run: func(context.Context, []string) error { return errors.New("it failed") }},
		},
		Complain: func(err error) { s.errs = append(s.errs, err.Error()) },
	}
	if change != nil {
		change(&o)
	}
	s.Console = New(o)
	return s
}

func (s *session) expect(t *testing.T, did ...string) {
	t.Helper()
	if !slices.Equal(s.did, did) {
		t.Errorf("did %q, want %q; errors %q\n%s", s.did, did, s.errs, s.out.String())
	}
}

// Lines are run one after the other, as they would be typed; errors do not end it.
func TestInteract(t *testing.T) {
	s := newSession("status\nST self \"a b\"\n\n# comment\nfail\nnope\nmerge\nstatus 1 2 3\n\"open\nquit\nstatus\n", nil)
	if err := s.Interact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "status", "status self|a b")
	want := []string{"it failed", "unknown command(nope), see \"help\"", "command(merge) needs 1 parameter", "unknown parameter(3) for status command", "a quote is not closed"}
	if !slices.Equal(s.errs, want) || s.Failed() == nil || s.Failed().Error() != "it failed" {
		t.Errorf("errors %q, first %v", s.errs, s.Failed())
	}
	if !strings.HasPrefix(s.out.String(), "T> status\nT> ST self") || !strings.HasSuffix(s.out.String(), "T> quit\nQuit.\n") {
		t.Errorf("printed\n%s", s.out.String())
	}
}

// The end of the input ends it, and what is no command goes elsewhere if there
// is an elsewhere.
func TestOther(t *testing.T) {
	var got []string
	s := newSession("hash -x k\n", func(o *Options) {
		o.Other = func(_ context.Context, words []string) error { got = words; return nil }
	})
	if err := s.Interact(t.Context()); err != nil || !slices.Equal(got, []string{"hash", "-x", "k"}) {
		t.Errorf("%v, %q", err, got)
	}
}

// "!" and a number repeat a line, which takes the place of the exclamation.
func TestHistory(t *testing.T) {
	t.Setenv("SHELL", "/bin/true")
	s := newSession("status self\nmerge start\n!1\n!!\n!9\n!\nhistory\n", nil)
	if err := s.Interact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "status self", "merge start", "status self", "status self")
	if want := " 1  status self\n 2  merge start\n 3  status self\n 4  status self\n 5  !9\n 6  shell\n 7  history\n"; !strings.Contains(s.out.String(), want) {
		t.Errorf("printed\n%s", s.out.String())
	}
	if !slices.Equal(s.errs, []string{"no history number(9)"}) {
		t.Errorf("errors %q", s.errs)
	}
}

// The oldest lines are forgotten.
func TestHistoryMax(t *testing.T) {
	s := newSession("status\nmerge a\nmerge b\nhis\n", func(o *Options) { o.HistoryMax = 2 })
	if err := s.Interact(t.Context()); err != nil || !strings.Contains(s.out.String(), "T> his\n 1  merge b\n 2  his\n") {
		t.Errorf("%v, printed\n%s", err, s.out.String())
	}
}

// What was typed can be saved, without what a file may not have, and loaded.
func TestSaveLoad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "commands")
	s := newSession(fmt.Sprintf("status\nhistory\n!1\nmerge start\nsave %s\nload %s\nload nofile\n", file, file), nil)
	if err := s.Interact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "status", "status", "merge start", "status", "status", "merge start")
	text, err := os.ReadFile(file)
	if err != nil || string(text) != "status\nstatus\nmerge start\n" {
		t.Errorf("saved %q, %v", text, err)
	}
	if len(s.errs) != 1 || !strings.Contains(s.errs[0], "nofile") {
		t.Errorf("errors %q", s.errs)
	}
}

// A file shows what it runs; a loop in it takes the loopcmd lines behind it.
func TestRunFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "commands")
	text := "# comment\n\n status\nloop 0 2\nloopcmd merge a\nlcmd status b\nshell\nload x\n!1\nloop x\nfail\nquit\nmerge z\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSession("", nil)
	if err := s.RunFile(t.Context(), file); !errors.Is(err, ErrQuit) {
		t.Errorf("RunFile = %v, want ErrQuit", err)
	}
	s.expect(t, "status", "merge a", "status b", "merge a", "status b")
	for _, want := range []string{
		"ERROR: shell command is not allowed in command file, then skip this command.\n",
		"ERROR: load x command", "ERROR: !1 command",
		"T> status\nT> loop 0 2\nT> merge a\nT> status b\nT> merge a\nT> status b\nT> loop x\nT> fail\nT> quit\nQuit.\n",
	} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, s.out.String())
		}
	}
	if len(s.errs) != 2 || !strings.Contains(s.errs[0], `"x": seconds from 0`) {
		t.Errorf("errors %q", s.errs)
	}
	if s.Failed() == nil || !strings.HasPrefix(s.Failed().Error(), `"shell" in `) {
		t.Errorf("a line that was skipped counts as failed; first: %v", s.Failed())
	}
}

// A file that is too long is not run at all.
func TestRunFileLong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "commands")
	if err := os.WriteFile(file, []byte(strings.Repeat("status\n", fileBytesMax/7+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSession("", nil)
	if err := s.RunFile(t.Context(), file); err == nil || len(s.did) > 0 {
		t.Errorf("RunFile = %v, ran %d lines", err, len(s.did))
	}
}

// loop asks for lines and repeats them.
func TestLoop(t *testing.T) {
	s := newSession("loop 0 2\nstatus\nload x\n\nmerge a\n.\nhis\nloop 0 -1\nloopcmd status\nloop 1\nstatus\n", nil)
	if err := s.Interact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "status", "merge a", "status", "merge a")
	for _, want := range []string{
		"T LOOP(0s,2count) COMMAND INPUT> status\n", "ERROR: load x command is not allowed in LOOP command.\n",
		"T LOOP> status\nT LOOP> merge a\nT LOOP> status\nT LOOP> merge a\nT> his\n",
		" 2  loopcmd status\n 3  loopcmd merge a\n", "T LOOP(1s,nolimit) COMMAND INPUT> ",
	} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, s.out.String())
		}
	}
	if len(s.errs) != 2 || !strings.Contains(s.errs[0], "how often?") || !strings.Contains(s.errs[1], "belongs into a command file") {
		t.Errorf("errors %q", s.errs)
	}
}

// An interrupt ends what runs and leads back to the prompt; loops without end,
// too. The end of the context ends the console.
func TestInterrupt(t *testing.T) {
	interrupts := make(chan os.Signal)
	interrupt := func() { go func() { interrupts <- syscall.SIGINT }() }
	rounds := 0
	s := newSession("hang\nloop 0\nround\n.\nstatus\n", func(o *Options) {
		o.Interrupts = interrupts
		o.Commands = []Command{
			{Names: []string{"hang"}, Run: func(ctx context.Context, _ []string) error {
				interrupt()
				<-ctx.Done()
				return context.Cause(ctx)
			}},
			{Names: []string{"round"}, Run: func(ctx context.Context, _ []string) error {
				if rounds++; rounds == 3 {
					interrupt()
				}
				return nil
			}},
			o.Commands[0],
		}
	})
	if err := s.Interact(t.Context()); err != nil {
		t.Error(err)
	}
	if s.expect(t, "status"); rounds < 3 || len(s.errs) > 0 {
		t.Errorf("%d rounds, errors %q", rounds, s.errs)
	}
}

// An interrupt is not lost when what runs succeeds in the same moment: loops end.
func TestInterruptAtSuccess(t *testing.T) {
	interrupts := make(chan os.Signal)
	s := newSession("", func(o *Options) { o.Interrupts = interrupts })
	err := s.interruptible(t.Context(), func(ctx context.Context) error {
		interrupts <- syscall.SIGINT
		<-ctx.Done()
		return nil
	})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("%v, want ErrInterrupted", err)
	}
}

// At its prompt an interrupt ends the console, and so does its context.
func TestInterruptedPrompt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	interrupts := make(chan os.Signal, 1)
	interrupts <- syscall.SIGINT
	s := newSession("", func(o *Options) { o.In, o.Interrupts = r, interrupts })
	if err := s.Interact(t.Context()); err != nil {
		t.Errorf("interrupted: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Interact(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// Repeat goes on until it is interrupted, and quits with a command.
func TestRepeat(t *testing.T) {
	interrupts := make(chan os.Signal)
	n := 0
	s := newSession("", func(o *Options) {
		o.Interrupts = interrupts
		o.Commands = append(o.Commands, Command{Names: []string{"round"}, Run: func(context.Context, []string) error {
			if n++; n == 3 {
				go func() { interrupts <- syscall.SIGINT }()
			}
			return nil
		}})
	})
	if err := s.Repeat(t.Context(), "round", 0); err != nil || n < 3 {
		t.Errorf("%v after %d rounds", err, n)
	}
	if err := s.Repeat(t.Context(), "quit", 0); !errors.Is(err, ErrQuit) {
		t.Errorf("quit: %v", err)
	}
}

// Words are taken apart as in a shell, as far as CHMPX does.
func TestSplit(t *testing.T) {
	for line, want := range map[string][]string{
		"":                nil,
		" a\tb  c\r":      {"a", "b", "c"},
		`a "b c" "d\"e"`:  {"a", "b c", `d"e`},
		`a\ b c\"`:        {"a b", `c"`},
		`say "" x#y # no`: {"say", "", "x#y"},
	} {
		if got, err := split(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("split(%q) = %q, %v, want %q", line, got, err, want)
		}
	}
}

// Tab finds commands first, then their words.
func TestCandidates(t *testing.T) {
	s := newSession("", func(o *Options) {
		o.Complete = func(words []string) []string {
			if len(words) == 1 {
				return []string{"host:1"}
			}
			return nil
		}
	})
	for line, want := range map[string][]string{
		"s":         {"save", "shell", "sleep", "status"},
		"st":        {"status"},
		"status ":   {"all", "host:1", "self"},
		"st\ts":     {"self"},
		"status h":  {"host:1"},
		"nope ":     {"host:1"},
		"status a ": {"all", "self"},
	} {
		if got := s.candidates(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// The time that a command took is printed where it is asked for.
func TestLap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession("wait\n", func(o *Options) {
			o.Lap = true
			o.Commands = append(o.Commands, Command{Names: []string{"wait"}, Run: func(ctx context.Context, _ []string) error {
				return pause(ctx, 3723*time.Second+4005*time.Microsecond)
			}})
		})
		if err := s.Interact(t.Context()); err != nil || !strings.Contains(s.out.String(), "\nLap time: 1h 2m 3s 4ms 5us(3723s 4005us)\n\n") {
			t.Errorf("%v\n%s", err, s.out.String())
		}
	})
}

// Whatever is typed is taken apart or refused; a word in quotes comes out as it is.
func FuzzSplit(f *testing.F) {
	f.Add(`a "b c" \" # no`)
	f.Add(`"open`)
	f.Fuzz(func(t *testing.T, line string) {
		_, _ = split(line) // has to return
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(strings.ToValidUTF8(line, "?")) + `"`
		if words, err := split(quoted); err != nil || len(words) != 1 || words[0] != strings.ToValidUTF8(line, "?") {
			t.Errorf("split(%q) = %q, %v", quoted, words, err)
		}
	})
}
