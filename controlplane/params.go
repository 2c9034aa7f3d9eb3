package controlplane

import (
	"fmt"
	"strings"

	"github.com/chmpx/chmpx/fsm"
)

// differingParams says in which ring-wide values the configuration of this node
// differs from the ring, whose values count; "" when in none.
func differingParams(ring, own fsm.Params) string {
	var differ []string
	value := func(name string, r, o any) {
		if r != o {
			differ = append(differ, fmt.Sprintf("%s is %v in the ring, %v here", name, r, o))
		}
	}
	value("PLACEMENT", ring.Placement, own.Placement)
	value("DELIVERMODE", ring.DeliverMode, own.DeliverMode)
	value("REPLICA", ring.Replica, own.Replica)
	value("CHMPXIDTYPE", ring.IDType, own.IDType)
	value("DOMERGE", ring.DoMerge, own.DoMerge)
	value("AUTOMERGE", ring.AutoMerge, own.AutoMerge)
	value("MERGETIMEOUT", ring.MergeTimeoutS, own.MergeTimeoutS)
	value("RAFTMAXVOTERS", ring.MaxVoters, own.MaxVoters)
	if ring.Placement == own.Placement {
		value("number of slots", ring.Slots, own.Slots)
	}
	if len(differ) == 0 {
		return ""
	}
	return "ring-wide values of the configuration differ from those of the ring, which count: " + strings.Join(differ, "; ")
}
