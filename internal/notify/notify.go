// Package notify tells the service manager what the daemon does, by the
// protocol of sd_notify(3). Without a service manager nothing happens.
package notify

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that the daemon works, or works again after a reload.
func Ready() { send(daemon.SdNotifyReady) }

// Status is a line for people: systemctl status shows it.
func Status(text string) { send("STATUS=" + text) }

// Stopping says that the daemon ends.
func Stopping() { send(daemon.SdNotifyStopping) }

// Reloading says that a reload has begun; Ready ends it. The service manager
// wants to know when, in the clock that it uses itself: with Type=notify-reload
// it takes a message without the time for one about an earlier reload.
func Reloading() {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return
	}
	send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, ts.Nano()/1000))
}

// Watchdog says that the daemon is alive.
func Watchdog() { send(daemon.SdNotifyWatchdog) }

// WatchdogPeriod is how often Watchdog is to be called: half of what the
// service manager allows. 0: it does not ask.
func WatchdogPeriod() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d / 2
}

// A message that is lost costs nothing that the daemon could mend.
func send(state string) { _, _ = daemon.SdNotify(false, state) }
