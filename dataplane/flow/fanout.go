package flow

import "github.com/chmpx/chmpx/wire"

// isFan reports whether messages of a kind go to several servers.
func isFan(k wire.Kind) bool { return k == wire.KindReplicate || k == wire.KindBroadcast }
