package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chmpx/chmpx/internal/ringview"
	"github.com/chmpx/chmpx/node"
	"github.com/chmpx/chmpx/testcluster/check"
)

// Usage asks the node what it uses.
func (n *Node) Usage(ctx context.Context) (check.Usage, error) {
	_, body, err := ringview.Fetch(ctx, n.Host, n.CtlPort)
	if err != nil {
		return check.Usage{}, err
	}
	var st node.Status
	if err := json.Unmarshal(body, &st); err != nil {
		return check.Usage{}, fmt.Errorf("read status: %w", err)
	}
	u := check.Usage{AtNs: check.Now(), Node: n.Name, PID: st.Process.PID, Goroutines: st.Process.Goroutines,
		Descriptors: st.Process.Descriptors, HeapBytes: st.Process.HeapBytes, SegmentBytes: st.Data.ShmBytes, Attached: len(st.Data.Attached), Leads: st.Raft.Role == "leader"}
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(st.Process.PID), "status"))
	if err != nil {
		return check.Usage{}, fmt.Errorf("read memory of %s: %w", n.Name, err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &u.ResidentBytes); err == nil {
			u.ResidentBytes *= 1024
			break
		}
	}
	return u, nil
}
