package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// strangersMax bounds the proposers remembered that are neither the boot of a
// known node nor its operators (Operator): starts that were never admitted, or
// not yet, and the operators of starts that are over.
const strangersMax = 64

// proposal is the last one applied of a proposer.
type proposal struct {
	Proposer uint64 `json:"proposer"`
	Number   uint64 `json:"number"`
	Index    uint64 `json:"index"`             // log index of that entry
	Refusal  string `json:"refusal,omitempty"` // text of the sentinel it was refused with
}

func compareProposal(p proposal, proposer uint64) int { return cmp.Compare(p.Proposer, proposer) }

// repeated reports whether the command's proposal was applied before: with
// what it was refused with then, or ErrOvertaken if it is not the last one of
// its proposer.
func (s *State) repeated(c Command) (bool, error) {
	if c.Proposer == 0 {
		return false, nil
	}
	i, known := slices.BinarySearchFunc(s.proposals, c.Proposer, compareProposal)
	if !known || c.Number > s.proposals[i].Number {
		return false, nil
	}
	if c.Number < s.proposals[i].Number {
		return true, fmt.Errorf("%w: number %d after %d", ErrOvertaken, c.Number, s.proposals[i].Number)
	}
	return true, Refusal(s.proposals[i].Refusal)
}

// remember notes the command as its proposer's last one, with its refusal if
// it had one: whoever asks again must not be told that it was accepted.
func (s *State) remember(c Command, index uint64, refused error) {
	if c.Proposer == 0 {
		return
	}
	p := proposal{Proposer: c.Proposer, Number: c.Number, Index: index, Refusal: RefusalText(refused)}
	i, known := slices.BinarySearchFunc(s.proposals, c.Proposer, compareProposal)
	if known {
		s.proposals[i] = p
		return
	}
	s.proposals = slices.Insert(s.proposals, i, p)
	s.boundStrangers()
}

// boundStrangers forgets the strangers that have been silent for longest.
func (s *State) boundStrangers() {
	boots := make(map[uint64]bool, len(s.servers)+len(s.slaves))
	for i := range s.servers {
		boots[s.servers[i].Boot], boots[Operator(s.servers[i].Boot)] = true, true
	}
	for i := range s.slaves {
		boots[s.slaves[i].Boot], boots[Operator(s.slaves[i].Boot)] = true, true
	}
	var strangers []proposal
	for _, p := range s.proposals {
		if !boots[p.Proposer] {
			strangers = append(strangers, p)
		}
	}
	if len(strangers) <= strangersMax {
		return
	}
	slices.SortFunc(strangers, func(a, b proposal) int { return cmp.Compare(a.Index, b.Index) })
	for _, p := range strangers[:len(strangers)-strangersMax] {
		s.forgetProposer(p.Proposer)
	}
}

// forgetProposer drops a boot that is over.
func (s *State) forgetProposer(boot uint64) {
	if i, known := slices.BinarySearchFunc(s.proposals, boot, compareProposal); known {
		s.proposals = slices.Delete(s.proposals, i, i+1)
	}
}
