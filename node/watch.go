package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times of watching the files of the configuration.
const (
	// watchSettle is how long files must stay as they are before they are read: who
	// writes a file anew empties it first.
	watchSettle = 100 * time.Millisecond
	// watchTick is how often files are looked at without any event, because there
	// are file systems that have none, and a directory that is replaced.
	watchTick = 10 * time.Second
)

// watcher notices that files have changed.
type watcher struct {
	events  *fsnotify.Watcher // nil: the system gives none, there are ticks alone
	files   []string
	settled string // print of what was read last
	seen    string // print at the last look
}

// watchConfig reads the configuration again when its files have changed, until
// ctx ends. The directories are watched, so that it makes no difference whether
// a file is written anew, replaced, or deleted and created.
func (n *Node) watchConfig(ctx context.Context) error {
	if n.opts.NoWatch || !regular(n.conf().Files) {
		<-ctx.Done()
		return nil
	}
	w := watcher{files: n.conf().Files}
	var events chan fsnotify.Event
	var errs chan error
	if fs, err := fsnotify.NewWatcher(); err != nil {
		n.log.Warn("changes of the configuration are noticed late", "after", watchTick, "error", err)
	} else {
		defer fs.Close()
		w.events, events, errs = fs, fs.Events, fs.Errors
	}
	w.watch()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	look := time.NewTimer(0) // the files may have changed since they were read
	defer look.Stop()
	for looking := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.watch()
		case _, ok := <-events:
			if !ok { // it has given up
				events = nil
			}
		case err, ok := <-errs: // for one, more events than the queue holds
			if !ok {
				errs = nil
			}
			n.log.Debug("watching the configuration", "error", err)
		case <-look.C:
			if looking = !w.still(); looking {
				look.Reset(watchSettle)
			} else if w.changed() || n.configStatus().Refused != "" {
				_, _ = n.Reload() // says by itself how it went
				w.files = n.conf().Files
				w.watch()
			}
			continue
		}
		if !looking {
			looking = true
			look.Reset(watchSettle)
		}
	}
}

// regular reports whether there are files, and all can be read again: a pipe is
// empty then, and a text that includes nothing does not change.
func regular(files []string) bool {
	return len(files) > 0 && !slices.ContainsFunc(files, func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && !info.Mode().IsRegular()
	})
}

// watch sees to it that all directories that have a part in the files are watched.
func (w *watcher) watch() {
	if w.events == nil {
		return
	}
	watched := w.events.WatchList()
	for _, file := range w.files {
		dirs := []string{filepath.Dir(file)}
		if real, err := filepath.EvalSymlinks(file); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
		for _, dir := range dirs {
			if !slices.Contains(watched, dir) {
				_ = w.events.Add(dir) // one that is not there now is watched later
			}
		}
	}
}

// still reports whether the files are as they were at the last look.
func (w *watcher) still() bool {
	before := w.seen
	w.seen = fingerprint(w.files)
	return before == w.seen
}

// changed reports whether the files are others than those that were read last,
// which they are taken for from now on.
func (w *watcher) changed() bool {
	before := w.settled
	w.settled = w.seen
	return before != w.settled
}

// fingerprint is another one when the files are, or when one has been written to.
func fingerprint(files []string) string {
	var b strings.Builder
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			fmt.Fprintln(&b, err)
			continue
		}
		fmt.Fprintln(&b, info.Size(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintln(&b, st.Dev, st.Ino, st.Ctim.Nano())
		}
	}
	return b.String()
}
