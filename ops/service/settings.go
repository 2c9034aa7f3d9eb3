package service

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Settings is what the files say, with defaults for what they do not say.
type Settings struct {
	IniFile           string // configuration of the program, an absolute path
	PidDir            string
	ServicePidFile    string // name in PidDir
	SubprocessPidFile string // name in PidDir
	User              string // who the program runs as; "": as the service
	LogDir            string // "": Options.Output takes all logs
	ServiceLogFile    string // name in LogDir; "": Options.Output
	SubprocessLogFile string // name in LogDir; "": Options.Output
	DependPidFile     string // a process to wait for; "": none
	AfterDepend       time.Duration
	Startup           time.Duration
	AfterUp           time.Duration
	Interval          time.Duration
	StopTries         int      // from 1
	ProgramOptions    []string // behind "-conf IniFile"
	BeforeRun         string   // for /bin/sh -c; "": nothing
}

// Keyword is a word that the files may set.
type Keyword struct {
	Name    string
	Default string // "": empty
	Does    string // for people
	set     func(s *Settings, value string) error
}

// Limits of numbers.
const (
	secondsMax = 86400
	triesMax   = 1000
)

// Keywords returns all of them, in the order of the documents.
func Keywords() []Keyword {
	return []Keyword{
		{"INI_CONF_FILE", "chmpx.ini", "configuration of chmpx; a relative path begins where this file is",
			func(s *Settings, v string) error { s.IniFile = v; return nil }},
		{"PIDDIR", "/var/run/antpickax", "directory of the pid files, created if it is missing",
			func(s *Settings, v string) error { return setAbsolute(&s.PidDir, v) }},
		{"SERVICE_PIDFILE", name + ".pid", "file in PIDDIR for the process id of the service",
			func(s *Settings, v string) error { return setName(&s.ServicePidFile, v) }},
		{"SUBPROCESS_PIDFILE", "chmpx.pid", "file in PIDDIR for the process id of chmpx",
			func(s *Settings, v string) error { return setName(&s.SubprocessPidFile, v) }},
		{"SUBPROCESS_USER", "", "user that chmpx runs as; empty: the user of the service",
			func(s *Settings, v string) error { s.User = v; return nil }},
		{"LOGDIR", "", "directory of the log files, created if it is missing; empty: all goes to standard output, so to the journal",
			func(s *Settings, v string) error { return setAbsolute(&s.LogDir, v) }},
		{"SERVICE_LOGFILE", "", "file in LOGDIR for the log of the service; empty: standard output",
			func(s *Settings, v string) error { return setName(&s.ServiceLogFile, v) }},
		{"SUBPROCESS_LOGFILE", "", "file in LOGDIR for what chmpx prints; empty: standard output",
			func(s *Settings, v string) error { return setName(&s.SubprocessLogFile, v) }},
		{"WAIT_DEPENDPROC_PIDFILE", "", "pid file of a process that must run before chmpx starts; empty: none",
			func(s *Settings, v string) error { return setAbsolute(&s.DependPidFile, v) }},
		{"WAIT_SEC_AFTER_DEPENDPROC_UP", "15", "seconds that this process must have been running",
			func(s *Settings, v string) error { return setSeconds(&s.AfterDepend, v, 0) }},
		{"WAIT_SEC_STARTUP", "10", "seconds between the start of the service and that of chmpx",
			func(s *Settings, v string) error { return setSeconds(&s.Startup, v, 0) }},
		{"WAIT_SEC_AFTER_SUBPROCESS_UP", "15", "seconds that chmpx must live to count as started",
			func(s *Settings, v string) error { return setSeconds(&s.AfterUp, v, 0) }},
		{"INTERVAL_SEC_FOR_LOOP", "10", "seconds between two looks at what is waited for, before a new start, and for a step of stopping",
			func(s *Settings, v string) error { return setSeconds(&s.Interval, v, 1) }},
		{"TRYCOUNT_STOP_SUBPROC", "10", "how often stopping is tried before it has failed",
			func(s *Settings, v string) error { return setNumber(&s.StopTries, v, 1, triesMax) }},
		{"SUBPROCESS_OPTIONS", "", "further options of chmpx, separated by blanks",
			func(s *Settings, v string) error { s.ProgramOptions = strings.Fields(v); return nil }},
		{"BEFORE_RUN_SUBPROCESS", "", "command for /bin/sh -c before each start of chmpx; that it fails is only logged",
			func(s *Settings, v string) error { s.BeforeRun = v; return nil }},
	}
}

// iniKeyword is the other name of INI_CONF_FILE, the one CHMPX reads.
const iniKeyword = "CHMPX_INI_CONF_FILE"

// setAbsolute takes an absolute path.
func setAbsolute(to *string, value string) error {
	if value != "" && !filepath.IsAbs(value) {
		return errors.New("an absolute path is allowed")
	}
	*to = value
	return nil
}

// setName takes the name of a file in a directory that another keyword names.
func setName(to *string, value string) error {
	if strings.ContainsRune(value, '/') || value == "." || value == ".." {
		return errors.New("a file name without / is allowed")
	}
	*to = value
	return nil
}

// setSeconds takes whole seconds.
func setSeconds(to *time.Duration, value string, least int) error {
	var n int
	if err := setNumber(&n, value, least, secondsMax); err != nil {
		return err
	}
	*to = time.Duration(n) * time.Second
	return nil
}

// setNumber takes digits.
func setNumber(to *int, value string, least, most int) error {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || int(n) < least || int(n) > most {
		return fmt.Errorf("a number from %d to %d is allowed", least, most)
	}
	*to = int(n)
	return nil
}
