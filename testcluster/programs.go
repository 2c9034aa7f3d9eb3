package testcluster

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/chmpx/chmpx/client"
)

// A request is the key, its N, and whether the client program asks again. The
// reply adds the name of the server that answered and whether the message came
// with MaybeRepeat.
const (
	requestBytes = 9
	replyBytes   = requestBytes + 2
)

// ServerProgram attaches to the server node of a configuration file and
// answers until ctx ends. Then it writes all messages that it was given to
// file, as records of Taken.
func ServerProgram(ctx context.Context, conf string, name byte, file string) error {
	c, err := attach(ctx, conf, client.RoleServer)
	if err != nil {
		return err
	}
	defer c.Close()
	var taken []Taken
	// One thread, so that messages are noted in the order in which they are taken.
	err = c.Serve(ctx, 1, func(_ context.Context, m *client.Message) ([]byte, error) {
		if len(m.Payload) != requestBytes {
			return nil, fmt.Errorf("testcluster: request of %d bytes", len(m.Payload))
		}
		t := Taken{
			Key: binary.LittleEndian.Uint32(m.Payload), N: binary.LittleEndian.Uint32(m.Payload[4:]),
			AtNs: time.Now().UnixNano(), MaybeRepeat: m.MaybeRepeat || m.Payload[8] == 1,
		}
		taken = append(taken, t)
		reply := append(make([]byte, 0, replyBytes), m.Payload...)
		reply = append(reply, name, 0)
		if t.MaybeRepeat {
			reply[replyBytes-1] = 1
		}
		return reply, nil
	})
	if ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	return writeRecords(file, taken)
}

func attach(ctx context.Context, conf string, role client.Role) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := client.Attach(ctx, client.Options{Config: conf, Role: role, Name: "testcluster"})
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	return c, nil
}

// Load says what ClientProgram sends.
type Load struct {
	Requests  int  // at most; it stops earlier when its context ends
	OneWay    bool // messages without reply: "answered" is when Send accepted them
	PerSecond int  // open loop: requests are sent when they are due, whatever is unanswered
	FirstKey  int
	Keys      int           // FirstKey, FirstKey+1 ...; they are their own hashes, so that they spread evenly over the servers
	Patience  time.Duration // how long after the last request answers may come
}

const progressEvery = time.Second

// Progress is what ClientProgram reports while it runs.
type Progress struct {
	Sent     int            `json:"sent"`
	Answered int            `json:"answered"`
	By       map[string]int `json:"by"` // answers since the last report, by server
	Waiting  int            `json:"waiting"`
}

// sessions is how many attachments the client program spreads its keys over. A
// session has room for 1,024 messages past its oldest unsettled one, so a
// single one would stall when the owner of some keys is dead for a while.
const sessions = 16

// loadRun is one run of ClientProgram.
type loadRun struct {
	Load
	again sync.WaitGroup
	mu    sync.Mutex // guards what follows; never held while sending
	asked []Asked
	sent  int
	done  int            // answered, with a reply or an error
	by    map[string]int // since the last report
	errs  []error        // reasons of the first few requests that failed
}

// ClientProgram attaches to the node of a configuration file, sends the load
// until it is through or ctx ends, waits for the answers that are missing, and
// writes a record of Asked for each request that it has sent to file. It
// reports progress to w as lines of JSON.
func ClientProgram(ctx context.Context, conf string, load Load, file string, w io.Writer) error {
	var clients []*client.Client
	for range sessions {
		c, err := attach(ctx, conf, client.RoleClient)
		if err != nil {
			return err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	r := &loadRun{Load: load, asked: make([]Asked, load.Requests), by: map[string]int{}}
	reports := make(chan struct{})
	reportCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { defer close(reports); r.report(reportCtx, w) }()
	err := r.send(ctx, clients)
	stop()
	<-reports
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := slices.DeleteFunc(r.asked, func(a Asked) bool { return a.DueNs == 0 })
	return errors.Join(err, writeRecords(file, asked), errors.Join(r.errs...))
}

// send sends every request when it is due and waits for the answers. Each
// session sends its keys from a goroutine of its own, which keeps their order.
func (r *loadRun) send(ctx context.Context, clients []*client.Client) error {
	// Answers, and repeats of requests, outlive the end of sending.
	answers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	start := time.Now()
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for n, c := range clients {
		wg.Go(func() { errs[n] = r.sendSession(ctx, answers, c, n, start) })
	}
	wg.Wait()
	patience := time.AfterFunc(r.Patience, cancel)
	defer patience.Stop()
	r.await(answers)
	cancel()
	r.again.Wait()
	return errors.Join(errs...)
}

func (r *loadRun) gap() time.Duration { return time.Second / time.Duration(r.PerSecond) }

func (r *loadRun) sendSession(ctx, answers context.Context, c *client.Client, session int, start time.Time) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range r.Requests {
		key := uint32(r.FirstKey + i%r.Keys)
		if int(key)%sessions != session {
			continue
		}
		due := start.Add(time.Duration(i) * r.gap())
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		r.mu.Lock()
		r.asked[i] = Asked{Key: key, N: uint32(i / r.Keys), DueNs: due.UnixNano()}
		r.sent++
		r.mu.Unlock()
		if err := r.sendOne(ctx, answers, c, i); err != nil {
			r.mu.Lock()
			r.asked[i].DueNs = 0 // not accepted: nothing was promised
			r.sent--
			r.mu.Unlock()
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("send request %d: %w", i, err)
		}
	}
	return nil
}

// sendOne sends request i. It returns an error only if it was not accepted.
func (r *loadRun) sendOne(ctx, answers context.Context, c *client.Client, i int) error {
	key, n := r.asked[i].Key, r.asked[i].N
	if r.OneWay {
		if err := c.Send(ctx, uint64(key), request(key, n, false)); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.done++
		r.asked[i].AnsweredNs = time.Now().UnixNano()
		return nil
	}
	return c.RequestAsync(ctx, uint64(key), request(key, n, false), func(reply []byte, err error) {
		if errors.Is(err, client.ErrMaybeDelivered) && answers.Err() == nil {
			r.again.Go(func() { r.askAgain(answers, c, i, key, n) }) // ends with answers at the latest
			return
		}
		r.answered(i, reply, err)
	})
}

// request returns the payload of a request.
func request(key, n uint32, again bool) []byte {
	p := binary.LittleEndian.AppendUint32(make([]byte, 0, requestBytes), key)
	p = binary.LittleEndian.AppendUint32(p, n)
	if again {
		return append(p, 1)
	}
	return append(p, 0)
}

// askAgain repeats a request that a server took and did not answer, because it
// ended. The repeat says so.
func (r *loadRun) askAgain(ctx context.Context, c *client.Client, i int, key, n uint32) {
	reply, err := c.Request(ctx, uint64(key), request(key, n, true), client.Repeatable())
	r.answered(i, reply.Payload, err)
}

// answered takes the answer to request i.
func (r *loadRun) answered(i int, reply []byte, err error) {
	now := time.Now().UnixNano()
	if err == nil && len(reply) != replyBytes {
		err = fmt.Errorf("testcluster: reply of %d bytes", len(reply))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done++
	if err != nil {
		if len(r.errs) < 5 {
			r.errs = append(r.errs, fmt.Errorf("request %d: %w", i, err))
		}
		return
	}
	a := &r.asked[i]
	a.AnsweredNs, a.By, a.MaybeRepeat = now, reply[requestBytes], reply[replyBytes-1] == 1
	r.by[string(reply[requestBytes:requestBytes+1])]++
}

// await returns when every request has its answer, or at the end of ctx: who
// is unanswered then is lost, and the records say so.
func (r *loadRun) await(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		r.mu.Lock()
		all := r.done == r.sent
		r.mu.Unlock()
		if all {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// report writes the progress until ctx ends, and once more then.
func (r *loadRun) report(ctx context.Context, w io.Writer) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	enc := json.NewEncoder(w)
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		r.mu.Lock()
		p := Progress{Sent: r.sent, Answered: r.done, By: r.by, Waiting: r.sent - r.done}
		r.by = map[string]int{}
		r.mu.Unlock()
		if enc.Encode(p) != nil {
			return // nobody listens
		}
	}
}
