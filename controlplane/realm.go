package controlplane

import (
	"fmt"
	"strconv"
)

// loadRealm reads to which ring the log in the data directory belongs. The log
// itself would tell only once a leader says what of it is committed, and by
// then it may have met the log of another ring.
func (p *Plane) loadRealm() error {
	text, err := p.dir.Realm()
	if err != nil {
		return err
	}
	if text == "" { // the file is lost: what the log says first is most likely right
		log := p.scratchFSM()
		named := func() bool { return log.View().RingID != 0 }
		if err := p.stores.Replay(log, named); err != nil {
			return p.inDataDir(err)
		}
		id := log.View().RingID
		p.realm.Store(id)
		return p.dir.SetRealm(realmText(id))
	}
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return fmt.Errorf("%w: ring id %q in %s", ErrConfig, text, p.dir.Path())
	}
	p.realm.Store(id)
	return nil
}

// keepRealm notes the ring that an applied state is of. It returns false when
// this node has the log of another one and must stop.
func (p *Plane) keepRealm(id uint64) bool {
	switch own := p.realm.Load(); {
	case own == id:
		return true
	case own != 0:
		p.onFatal(fmt.Errorf("%w: the log became that of ring %s, ours is %s", ErrOtherRing, realmText(id), realmText(own)))
		return false
	}
	p.realm.Store(id)
	if p.dir == nil {
		return true
	}
	if err := p.dir.SetRealm(realmText(id)); err != nil {
		p.log.Error("cannot record the ring id", "err", err) // raft's own writes will say more
	}
	return true
}

// realmName names the ring on raft's connections, "" while there is none.
func (p *Plane) realmName() string {
	if id := p.realm.Load(); id != 0 {
		return realmText(id)
	}
	return ""
}

func realmText(id uint64) string { return fmt.Sprintf("%016x", id) }
