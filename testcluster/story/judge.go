package story

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/chmpx/chmpx/client"
	"github.com/chmpx/chmpx/wire"
)

// judge knows every message of a story and what became of it.
type judge struct {
	mu       sync.Mutex // guards everything below
	messages []*message // by number, from 1
	ids      map[messageID]*message
	early    map[messageID]client.Undelivered // told as given up while the call that sends it has not returned
	tookAll  int                              // takes so far
	counted  int                              // takes that counts has shown
	bad      []error
}

// messageID names an accepted message as the ring does.
type messageID struct {
	session wire.SessionID
	seq     uint64
}

// message is one that a program has tried to send.
type message struct {
	number   uint64 // in the order of sending
	session  wire.SessionID
	key      string
	many     bool // broadcast or replicated: one copy each
	ordered  bool // by hash, so its order holds
	accepted bool
	refused  bool // it must never be taken
	gaveUp   bool // the ring said that it has given it up
	maybe    bool // and that it may have been taken all the same
	takes    []take
}

type take struct {
	by     string
	marked bool
	at     time.Time
	number int // among all takes
}

// payloadBytesMin is room for a message's number.
const payloadBytesMin = 8

// sending notes a message that is about to be sent, and returns its payload.
func (j *judge) sending(session wire.SessionID, key string, kind wire.Kind, size int) (*message, []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := &message{number: uint64(len(j.messages) + 1), session: session, key: key,
		many: kind == wire.KindBroadcast || kind == wire.KindReplicate, ordered: kind == wire.KindHash}
	j.messages = append(j.messages, m)
	b := make([]byte, max(size, payloadBytesMin))
	binary.LittleEndian.PutUint64(b, m.number)
	return m, b
}

// sent notes whether the ring has accepted a message, and under which sequence.
func (j *judge) sent(m *message, accepted bool, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m.accepted, m.refused = accepted, !accepted
	if accepted {
		if j.ids == nil {
			j.ids = make(map[messageID]*message)
		}
		id := messageID{m.session, seq}
		j.ids[id] = m
		if u, told := j.early[id]; told {
			delete(j.early, id)
			m.gaveUp, m.maybe = true, u.MaybeDelivered
		}
	}
}

// failed notes that an accepted message was said to be not, or perhaps, taken.
func (j *judge) failed(m *message, maybe bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	m.gaveUp, m.maybe = true, maybe
}

// givenUp notes what Options.Undelivered told.
func (j *judge) givenUp(session wire.SessionID, u client.Undelivered) {
	j.mu.Lock()
	defer j.mu.Unlock()
	id := messageID{session, u.Seq}
	m := j.ids[id]
	if m == nil {
		if _, told := j.early[id]; told {
			j.bad = append(j.bad, fmt.Errorf("sequence %d is told as given up twice", u.Seq))
		}
		if j.early == nil {
			j.early = make(map[messageID]client.Undelivered)
		}
		j.early[id] = u
		return
	}
	if m.gaveUp {
		j.bad = append(j.bad, fmt.Errorf("message %d of %s is told as given up twice", m.number, m.key))
	}
	m.gaveUp, m.maybe = true, u.MaybeDelivered
}

// taken notes that a program has a message.
func (j *judge) taken(by string, got *client.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := uint64(0)
	if len(got.Payload) >= payloadBytesMin {
		n = binary.LittleEndian.Uint64(got.Payload)
	}
	if n == 0 || n > uint64(len(j.messages)) || j.messages[n-1].session != got.Session {
		j.bad = append(j.bad, fmt.Errorf("%s took a message that nobody sent", by))
		return
	}
	j.tookAll++
	m := j.messages[n-1]
	m.takes = append(m.takes, take{by: by, marked: got.MaybeRepeat, at: time.Now(), number: j.tookAll})
}

func (j *judge) wrong(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.bad = append(j.bad, fmt.Errorf(format, a...))
}

// missing says what was accepted and is neither taken nor given up; "" for nothing.
func (j *judge) missing() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	n, first := 0, ""
	for _, m := range j.messages {
		if m.accepted && !m.gaveUp && len(m.takes) == 0 {
			if n++; n == 1 {
				first = fmt.Sprintf("message %d of %s", m.number, m.key)
			}
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d messages are not taken, the first is %s", n, first)
}

// wrongs returns what broke the contract.
func (j *judge) wrongs() []error {
	j.mu.Lock()
	defer j.mu.Unlock()
	bad := j.bad
	type line struct {
		session wire.SessionID
		key     string
	}
	for id := range j.early {
		bad = append(bad, fmt.Errorf("sequence %d is told as given up, and was never accepted", id.seq))
	}
	newest := make(map[line]*message) // with the latest first take
	for _, m := range j.messages {
		if m.accepted && !m.gaveUp && len(m.takes) == 0 {
			bad = append(bad, fmt.Errorf("message %d of %s is lost", m.number, m.key))
		}
		if len(m.takes) == 0 {
			continue
		}
		if m.refused {
			bad = append(bad, fmt.Errorf("message %d of %s was refused, and taken by %s", m.number, m.key, m.takes[0].by))
		}
		if m.gaveUp && !m.maybe {
			bad = append(bad, fmt.Errorf("message %d of %s was told as not delivered, and taken by %s", m.number, m.key, m.takes[0].by))
		}
		bad = append(bad, m.repeats()...)
		if !m.ordered {
			continue
		}
		l := line{m.session, m.key}
		if before := newest[l]; before == nil || !m.overtook(before) {
			newest[l] = m
		} else {
			bad = append(bad, fmt.Errorf("message %d of %s was taken by %s before message %d, which was sent before",
				m.number, m.key, m.takes[0].by, before.number))
		}
	}
	return bad
}

// repeats finds takes of one message that are not marked although there is another.
func (m *message) repeats() (bad []error) {
	unmarked := make(map[string]string)
	for _, t := range m.takes {
		whose := "" // of all together
		if m.many {
			whose = t.by
		}
		if by := unmarked[whose]; by != "" && !t.marked {
			bad = append(bad, fmt.Errorf("message %d of %s was taken by %s and by %s, both without mark", m.number, m.key, by, t.by))
		}
		if !t.marked {
			unmarked[whose] = t.by
		}
	}
	return bad
}

// overtook reports whether m, which was sent after before, was first taken
// before it. Two programs that take in the same instant of fake time do so in
// an order that nobody can know.
func (m *message) overtook(before *message) bool {
	a, b := before.takes[0], m.takes[0]
	return b.at.Before(a.at) || a.by == b.by && b.number < a.number
}

// counts returns how many messages each program has taken first, by key, since
// it was last asked.
func (j *judge) counts() map[string]map[string]int {
	j.mu.Lock()
	defer j.mu.Unlock()
	got := make(map[string]map[string]int)
	from := j.counted
	for _, m := range j.messages {
		seen := make(map[string]bool)
		for _, t := range m.takes {
			if t.number <= from || seen[t.by] {
				continue
			}
			seen[t.by] = true
			if got[t.by] == nil {
				got[t.by] = make(map[string]int)
			}
			got[t.by][m.key]++
		}
	}
	j.counted = j.tookAll
	return got
}

// marks returns how many takes each program had, and how many of them were marked.
func (j *judge) marks() (marked, taken map[string]int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	marked, taken = make(map[string]int), make(map[string]int)
	for _, m := range j.messages {
		for _, t := range m.takes {
			taken[t.by]++
			if t.marked {
				marked[t.by]++
			}
		}
	}
	return marked, taken
}

// numbers returns how many messages were accepted and how many given up.
func (j *judge) numbers() (accepted, gaveUp int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, m := range j.messages {
		if m.accepted {
			accepted++
		}
		if m.gaveUp {
			gaveUp++
		}
	}
	return accepted, gaveUp
}
