package control

import "sync"

// places is how many of something there can be at once, in all and of one user.
// A place is kept for root and the daemon's own user.
type places struct {
	all    int // of everybody together
	others int // of those who are neither root nor the daemon's own user, together
	each   int // of one of those

	mu    sync.Mutex
	open  int
	users map[uint32]int
}

func (p *places) take(uid uint32, privileged bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= p.all || !privileged && (p.open >= p.others || p.users[uid] >= p.each) {
		return false
	}
	if p.users == nil {
		p.users = map[uint32]int{}
	}
	p.open++
	p.users[uid]++
	return true
}

func (p *places) giveBack(uid uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if p.users[uid]--; p.users[uid] == 0 {
		delete(p.users, uid)
	}
}
