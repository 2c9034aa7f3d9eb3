package shm

import (
	"errors"
	"os"
	"testing"
)

// TestDoorbell proves that a ring before or during Wait makes it look again,
// and that Close ends it, for each kind of doorbell.
func TestDoorbell(t *testing.T) {
	for _, m := range memories {
		t.Run(m.name, func(t *testing.T) {
			d := m.bell(t)
			looks, parked, result := 0, make(chan struct{}), make(chan error, 1)
			wait := func(until int) {
				result <- d.Wait(func() bool {
					looks++
					if looks < until {
						parked <- struct{}{}
						return false
					}
					return true
				})
			}
			go wait(3)
			for range 2 {
				<-parked
				if err := d.Ring(); err != nil {
					t.Fatal(err)
				}
			}
			if err := <-result; err != nil {
				t.Fatal(err)
			}
			go wait(1 << 30)
			<-parked
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait after Close: %v, want os.ErrClosed", err)
			}
			if err := d.Wait(func() bool { return true }); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait on a closed bell: %v, want os.ErrClosed", err)
			}
			if err := d.Ring(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Ring of a closed bell: %v, want os.ErrClosed", err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

// TestCloseDuringPoll proves that Close does not wait for a poll that runs,
// which may itself wait for a lock of the one who closes.
func TestCloseDuringPoll(t *testing.T) {
	for _, m := range memories {
		t.Run(m.name, func(t *testing.T) {
			d := m.bell(t)
			in, out, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				result <- d.Wait(func() bool {
					in <- struct{}{}
					<-out
					return false
				})
			}()
			<-in
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			close(out)
			if err := <-result; !errors.Is(err, os.ErrClosed) {
				t.Errorf("Wait: %v, want os.ErrClosed", err)
			}
		})
	}
}
