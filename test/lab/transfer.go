package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// bin is the width of the receiver's time bins.
const bin = 100 * time.Millisecond

// meter records what arrives, and when.
type meter struct {
	mu    sync.Mutex
	total uint64
	start time.Time // of the measurement
	from  uint64    // total at the start
	last  time.Time
	gap   time.Duration
	gapAt time.Duration
	bins  []int
}

func (m *meter) add(n int) {
	if n <= 0 {
		return
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total += uint64(n)
	if m.start.IsZero() {
		return
	}
	m.pause(now)
	m.last = now
	k := int(now.Sub(m.start) / bin)
	for len(m.bins) <= k {
		m.bins = append(m.bins, 0)
	}
	m.bins[k] += n
}

func (m *meter) pause(now time.Time) {
	if g := now.Sub(m.last); g > m.gap {
		m.gap, m.gapAt = g, m.last.Sub(m.start)
	}
}

func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start, m.from, m.gap, m.bins = time.Now(), m.total, 0, nil
	m.last = m.start
}

func (m *meter) bytes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total - m.from
}

func (m *meter) result() Transfer {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.pause(now)
	r := Transfer{Bytes: m.total - m.from, Duration: now.Sub(m.start), Stall: m.gap, StallAt: m.gapAt}
	r.Bins = make([]int, int(r.Duration/bin))
	copy(r.Bins, m.bins)
	skip := int(time.Second / bin)
	if len(r.Bins) < 2*skip {
		skip = 0
	}
	var sum int
	for _, b := range r.Bins[skip:] {
		sum += b
	}
	if n := len(r.Bins) - skip; n > 0 {
		r.Mbps = float64(sum) * 8 / 1e6 / (float64(n) * bin.Seconds())
	}
	m.start = time.Time{}
	return r
}

// Transfer is what the receiver saw.
type Transfer struct {
	Bytes    uint64
	Duration time.Duration
	Mbps     float64       // goodput in Mbit/s; the first second does not count where there are two
	Stall    time.Duration // the longest time in which nothing arrived
	StallAt  time.Duration // when that began, from the start
	Bins     []int         // bytes in each 100 ms
	Err      error         // of the sender: the connection broke
}

func (r Transfer) String() string {
	var s []float64
	for i := 0; i < len(r.Bins); i += 10 {
		sum := 0
		for _, b := range r.Bins[i:min(i+10, len(r.Bins))] {
			sum += b
		}
		s = append(s, float64(sum*8/10000)/100)
	}
	return fmt.Sprintf("%.1f Mbit/s, longest stall %v at %v, Mbit in each second %v",
		r.Mbps, r.Stall.Round(time.Millisecond), r.StallAt.Round(time.Millisecond), s)
}

// Upload is a transfer under way.
type Upload struct {
	c    *Conn
	sc   *ServerConn
	stop atomic.Bool
	done chan struct{}
	err  error
}

// StartUpload sends as fast as the connection takes it, until Stop. It returns when the server has seen the first byte.
func (c *Conn) StartUpload() *Upload {
	t := c.Host.Lab.T
	t.Helper()
	c.WantEcho(20 * time.Second)
	sc, ok := byID.Load(c.id)
	if !ok {
		t.Fatalf("[%s] upload: the peer is no Server of this process", c.Host.Name)
	}
	u := &Upload{c: c, sc: sc.(*ServerConn), done: make(chan struct{})}
	u.sc.meter.begin()
	go u.run()
	return u
}

func (u *Upload) run() {
	defer close(u.done)
	data := make([]byte, 16<<10)
	head := make([]byte, 5)
	head[0] = frameChunk
	binary.BigEndian.PutUint32(head[1:], uint32(len(data)))
	for !u.stop.Load() {
		if u.err = u.c.write(time.Time{}, head, data); u.err != nil {
			return
		}
	}
}

// Bytes is what the server has received since StartUpload.
func (u *Upload) Bytes() uint64 { return u.sc.meter.bytes() }

// Stop lets the transfer go on for a time, ends it, and returns what the receiver saw until then. The connection can be
// used further, unless Err is set; what is still on its way arrives first.
func (u *Upload) Stop(after time.Duration) Transfer {
	select {
	case <-u.done:
	case <-time.After(after):
	}
	r := u.sc.meter.result()
	u.stop.Store(true)
	select {
	case <-u.done:
	case <-time.After(20 * time.Second):
		_ = u.c.SetWriteDeadline(time.Now())
		<-u.done
		u.err = errors.Join(errors.New("the last chunk could not be sent within 20s"), u.err)
	}
	r.Err = u.err
	return r
}

// Upload sends for a time and returns what the receiver saw.
func (c *Conn) Upload(during time.Duration) Transfer {
	c.Host.Lab.T.Helper()
	return c.StartUpload().Stop(during)
}

// Download asks the server for n bytes and returns what the client saw.
func (c *Conn) Download(n uint64) Transfer {
	c.Host.Lab.T.Helper()
	c.WantEcho(20 * time.Second)
	c.rmu.Lock()
	defer c.rmu.Unlock()
	var m meter
	m.begin()
	b := binary.BigEndian.AppendUint64([]byte{frameDownload}, n)
	err := c.write(time.Now().Add(20*time.Second), b)
	buf := make([]byte, 64<<10)
	for left := n; left > 0 && err == nil; {
		var k int
		_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
		k, err = c.Read(buf[:min(left, uint64(len(buf)))])
		m.add(k)
		left -= uint64(k)
	}
	r := m.result()
	r.Err = err
	return r
}
