// Package ops holds what a daemon needs to be operated: at present its log.
// It knows nothing of rings or messages. Functions may be called from any
// goroutine; the loggers they return may too.
package ops
