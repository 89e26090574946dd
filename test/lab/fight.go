package lab

import (
	"io"
	"strings"
	"sync"
	"time"
)

// Fighter is a program that carries out the same commands of ip(8) for ever.
type Fighter struct {
	*Proc
	stop func() (cycles int)
}

// Stop ends it and returns how often it carried them out.
func (f *Fighter) Stop() (cycles int) { return f.stop() }

// Fight starts one, with a pause before each time. It ends with the test.
func Fight(h *Host, every time.Duration, commands ...string) *Fighter {
	h.Lab.T.Helper()
	cmd := h.Command("ip", "-force", "-batch", "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		h.Lab.T.Fatal(err)
	}
	p := h.StartCommand(cmd)
	quit, done := make(chan struct{}), make(chan struct{})
	cycles := 0
	go func() {
		defer close(done)
		defer in.Close()
		for text := strings.Join(commands, "\n") + "\n"; ; cycles++ {
			select {
			case <-quit:
				return
			case <-time.After(every):
			}
			if _, err := io.WriteString(in, text); err != nil {
				return
			}
		}
	}()
	f := &Fighter{Proc: p, stop: sync.OnceValue(func() int {
		close(quit)
		<-done
		p.Wait(20 * time.Second)
		return cycles
	})}
	h.Lab.T.Cleanup(func() { f.Stop() })
	return f
}
