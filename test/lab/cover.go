package lab

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Cover has every program that is started on the host from now on see an empty tmpfs in place of each of these
// directories, those that do not exist left out, and an empty /etc/resolv.conf. With /run covered a program of the machine
// cannot be asked by mistake, and ip(8) knows no other namespace by name.
func (h *Host) Cover(dirs ...string) {
	h.Lab.T.Helper()
	Need(h.Lab.T, "mount")
	if _, err := os.Stat("/etc/resolv.conf"); err == nil {
		empty := filepath.Join(h.Lab.TempDir(), "resolv.conf")
		if err := os.WriteFile(empty, nil, 0o644); err != nil {
			h.Lab.T.Fatal(err)
		}
		h.Run("mount", "--bind", empty, "/etc/resolv.conf")
	}
	for _, d := range dirs {
		if _, err := os.Stat(d); err == nil {
			h.Run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", d)
		}
	}
}

// WriteFile writes a file as the programs of the host see it, with the directories above it.
func (h *Host) WriteFile(path, text string) {
	h.Lab.T.Helper()
	h.spawn.call(func() {
		h.Lab.T.Helper()
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			h.Lab.T.Errorf("[%s] %v", h.Name, err)
		}
	})
}

// ReadFile reads a file as the programs of the host see it.
func (h *Host) ReadFile(path string) (b []byte, err error) {
	h.spawn.call(func() { b, err = os.ReadFile(path) })
	return b, err
}

// Bus starts a system bus of the host's own; /run is to be covered before.
func (h *Host) Bus() *Proc {
	h.Lab.T.Helper()
	Need(h.Lab.T, "dbus-daemon")
	h.Run("mkdir", "-p", "/run/dbus")
	p := h.Start("dbus-daemon", "--system", "--nofork", "--nopidfile", "--nosyslog")
	Eventually(h.Lab.T, 20*time.Second, "the system bus", func() (err error) {
		h.spawn.call(func() { _, err = os.Stat("/run/dbus/system_bus_socket") })
		if !p.Running() {
			err = errors.Join(err, errors.New(p.status()+": "+p.Log()))
		}
		return err
	})
	return p
}

// Networkd starts systemd-networkd with these files, such as "10-eth0.network", of which those that end in .conf are for
// itself. /run is to be covered before, and the bus to run where networkctl is to be used.
func (h *Host) Networkd(files map[string]string) *Proc {
	h.Lab.T.Helper()
	Need(h.Lab.T, "systemd-networkd", "networkctl")
	h.Run("mkdir", "-p", "/run/systemd/network", "/run/systemd/netif")
	for name, text := range files {
		dir := "/run/systemd/network/"
		if filepath.Ext(name) == ".conf" {
			dir = "/run/systemd/networkd.conf.d/"
		}
		h.WriteFile(dir+name, text)
	}
	h.Run("chown", "-R", "systemd-network", "/run/systemd")
	h.withoutUdev()
	return h.Start("systemd-networkd")
}

// withoutUdev makes /sys read-only, by which programs know that they are in a container: udev knows no links of
// namespaces, and they would wait for it.
func (h *Host) withoutUdev() {
	h.Lab.T.Helper()
	h.Run("mount", "-o", "remount,ro,bind", "/sys")
}

// nmConf is for a NetworkManager that has only what a test gives it.
const nmConf = `[main]
plugins=keyfile
dhcp=internal
dns=none
no-auto-default=*
auth-polkit=false
[keyfile]
unmanaged-devices=except:interface-name:eth*
`

// NetworkManager starts NetworkManager, with a bus, for the links eth*, with further files below
// /etc/NetworkManager/conf.d, and waits until it answers. /run, /etc/NetworkManager and /var/lib/NetworkManager are to
// be covered before.
func (h *Host) NetworkManager(conf map[string]string) *Proc {
	h.Lab.T.Helper()
	Need(h.Lab.T, "NetworkManager", "nmcli")
	h.Bus()
	h.Run("mkdir", "-p", "/run/NetworkManager", "/etc/NetworkManager/system-connections", "/etc/NetworkManager/conf.d",
		"/etc/NetworkManager/dispatcher.d")
	h.WriteFile("/etc/NetworkManager/NetworkManager.conf", nmConf)
	for name, text := range conf {
		h.WriteFile("/etc/NetworkManager/conf.d/"+name, text)
	}
	h.withoutUdev()
	p := h.Start("NetworkManager", "-n", "--config", "/etc/NetworkManager/NetworkManager.conf")
	Eventually(h.Lab.T, 30*time.Second, "NetworkManager", func() error {
		_, err := h.Try("nmcli", "-t", "general", "status")
		if !p.Running() {
			h.Lab.T.Fatalf("NetworkManager ended: %s\n%s", p.status(), p.Log())
		}
		return err
	})
	return p
}
