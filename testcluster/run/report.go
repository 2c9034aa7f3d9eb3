package run

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/chmpx/chmpx/testcluster/check"
	"github.com/chmpx/chmpx/testcluster/fault"
)

// The files of a report's directory. A round in which a promise was broken has a
// directory beside them, with the files of roundFile and what nodes and
// programs have written.
const (
	runFile    = "run.json"
	reportText = "report.txt"
	reportHTML = "report.html"
	roundFile  = "round.json"
)

// Recorded is what runFile holds: how to run the same schedule again.
type Recorded struct {
	Options
	Schedules [][]fault.Event `json:"schedules"`
}

// ReadRecorded reads how the run of a report was made.
func ReadRecorded(dir string) (Recorded, error) {
	var rec Recorded
	text, err := os.ReadFile(filepath.Join(dir, runFile))
	if err == nil {
		err = json.Unmarshal(text, &rec)
	}
	if err != nil {
		return rec, fmt.Errorf("read what to replay: %w", err)
	}
	return rec, nil
}

// makeReportDir makes the directory of a report; rounds of an earlier one that
// are kept there are removed.
func makeReportDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make directory of the report: %w", err)
	}
	rounds, err := filepath.Glob(filepath.Join(dir, "round-*", roundFile))
	for _, file := range rounds {
		err = errors.Join(err, os.RemoveAll(filepath.Dir(file)))
	}
	if err != nil {
		return fmt.Errorf("clear directory of the report: %w", err)
	}
	return nil
}

// writeReport writes the report as files, and as text for whoever looks on.
func (r *runner) writeReport() error {
	rec := Recorded{Options: r.Options}
	for _, round := range r.rounds {
		rec.Schedules = append(rec.Schedules, round.Schedule)
	}
	text, err := json.MarshalIndent(rec, "", " ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	r.report.Name = r.Command()
	if err := os.WriteFile(filepath.Join(r.ReportDir, runFile), text, 0o640); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := toFile(filepath.Join(r.ReportDir, reportHTML), r.report.HTML); err != nil {
		return err
	}
	if err := toFile(filepath.Join(r.ReportDir, reportText), r.writeText); err != nil {
		return err
	}
	if err := r.report.Text(r.Out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.Out, "\nreport: %s\nrepeat: %s\n", filepath.Join(r.ReportDir, reportHTML), r.Command())
	return err
}

// writeText writes the report with all schedules.
func (r *runner) writeText(w io.Writer) error {
	if err := r.report.Text(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nTo repeat the schedule:\n  %s\n", r.Command())
	for _, round := range r.rounds {
		fmt.Fprintf(w, "\nRound %d, %.1f s\n", round.Number, round.Length.Seconds())
		for _, e := range round.Schedule {
			fmt.Fprintf(w, "  %v\n", e)
		}
		for _, s := range round.Skipped {
			fmt.Fprintf(w, "  not done: %s\n", s)
		}
	}
	return nil
}

// toFile writes a file as a whole.
func toFile(file string, write func(io.Writer) error) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	w := bufio.NewWriter(f)
	if err := errors.Join(write(w), w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// keep keeps what a round has left, with its own report.
func (c *current) keep(in check.Round) error {
	c.Dir = filepath.Join(c.ReportDir, fmt.Sprintf("round-%02d", c.Number))
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return fmt.Errorf("keep round: %w", err)
	}
	c.keepStacks()
	if err := c.keepLogs(c.Dir); err != nil {
		return err
	}
	for name, file := range in.Traces {
		kept := name + ".trace"
		if err := copyFile(filepath.Join(c.Dir, kept), file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		in.Traces[name] = kept
	}
	if err := c.keepAll(c.Dir, "histories"); err != nil {
		return err
	}
	in.Histories = nil // they are beside it
	err := toFile(filepath.Join(c.Dir, roundFile), func(w io.Writer) error { return json.NewEncoder(w).Encode(in) })
	if err != nil {
		return err
	}
	if err := toFile(filepath.Join(c.Dir, reportHTML), c.Report.HTML); err != nil {
		return err
	}
	for i, v := range c.Report.Violations {
		if v.Page == nil {
			continue
		}
		page := filepath.Join(c.Dir, fmt.Sprintf("violation-%d.html", i))
		if err := os.WriteFile(page, v.Page, 0o640); err != nil {
			return fmt.Errorf("keep round: %w", err)
		}
	}
	return toFile(filepath.Join(c.Dir, reportText), c.Report.Text)
}

// stacksWait is how long nodes may take to write what their goroutines do.
const stacksWait = 2 * time.Second

// keepStacks keeps what the goroutines of all nodes do, of those that can still say.
func (c *current) keepStacks() {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stacksWait)
	defer cancel()
	var files []string
	for _, h := range c.rig.Hosts {
		file := filepath.Join(dir, h.Name+".stacks")
		if p := h.Node.Proc(); p != nil && p.Running() && h.WriteStacks(file) == nil {
			files = append(files, fmt.Sprintf("%s.%d", file, p.Pid()))
		}
	}
	for len(files) > 0 && pause(ctx, observeEvery) {
		files = slices.DeleteFunc(files, func(file string) bool { _, err := os.Stat(file); return err == nil })
	}
}

// keepLogs copies the logs of all processes.
func (r *runner) keepLogs(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	logs, err := filepath.Glob(filepath.Join(r.rig.Dir, "*.log"))
	if err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	for _, log := range logs {
		if info, err := os.Stat(log); err != nil || info.Size() == 0 {
			continue
		}
		if err := copyFile(filepath.Join(dir, filepath.Base(log)), log); err != nil {
			return err
		}
	}
	return nil
}

// keepAll copies a directory of files.
func (r *runner) keepAll(dir, name string) error {
	if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(r.rig.Dir, name))); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

func copyFile(to, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("keep file: %w", err)
	}
	defer f.Close()
	return toFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

// Rejudge judges a round again that was kept, for whoever works on the judge.
func Rejudge(dir string) (check.Report, error) {
	var in check.Round
	text, err := os.ReadFile(filepath.Join(dir, roundFile))
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		return check.Report{}, fmt.Errorf("read kept round: %w", err)
	}
	if in.Histories, err = readHistories(filepath.Join(dir, "histories")); err != nil {
		return check.Report{}, err
	}
	for name, file := range in.Traces {
		in.Traces[name] = filepath.Join(dir, file)
	}
	return check.Judge(in), nil
}
