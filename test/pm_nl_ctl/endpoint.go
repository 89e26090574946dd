package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/subflowd/subflowd/pkg/mptcp"
)

// flagNames are in the order in which they are printed.
var flagNames = []struct {
	name string
	flag mptcp.Flags
}{
	{"signal", mptcp.FlagSignal},
	{"subflow", mptcp.FlagSubflow},
	{"laminar", mptcp.FlagLaminar},
	{"backup", mptcp.FlagBackup},
	{"fullmesh", mptcp.FlagFullmesh},
	{"implicit", mptcp.FlagImplicit},
	{"unknown", 1 << 7}, // a bit that the selftests take for one that no kernel knows
}

// parseFlags reads names with commas between them. A name with "no" before it is a flag that is not set.
func parseFlags(s string) (mptcp.Flags, error) {
	var flags mptcp.Flags
next:
	for _, name := range strings.Split(s, ",") {
		for _, f := range flagNames {
			switch name {
			case f.name:
				flags |= f.flag
				continue next
			case "no" + f.name:
				continue next
			}
		}
		return 0, fmt.Errorf("%w: unknown flag %s", errUsage, name)
	}
	return flags, nil
}

// options reads what follows the address: pairs of a keyword and its value.
func options(args []string, e *mptcp.Endpoint) error {
	for i := 0; i < len(args); i += 2 {
		if i+1 == len(args) {
			return fmt.Errorf("%w: %s: no value", errUsage, args[i])
		}
		value := args[i+1]
		var err error
		switch args[i] {
		case "flags":
			e.Flags, err = parseFlags(value)
		case "id":
			e.ID, err = number[uint8](value)
		case "port":
			e.Port, err = number[uint16](value)
		case "dev":
			var link *net.Interface
			if link, err = net.InterfaceByName(value); err == nil {
				e.IfIndex = int32(link.Index)
			}
		case "token", "rip", "rport":
			err = errUserspace
		default:
			err = errUsage
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", args[i], value, err)
		}
	}
	return nil
}

func number[T uint8 | uint16 | uint32](s string) (T, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if v := T(n); err == nil && uint64(v) == n {
		return v, nil
	}
	return 0, fmt.Errorf("%w: no number that fits: %s", errUsage, s)
}

func add(c *mptcp.Client, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	var e mptcp.Endpoint
	var err error
	// The address comes first in every script, and last in the usage text.
	first, last := args[0], args[len(args)-1]
	if e.Addr, err = netip.ParseAddr(first); err == nil {
		args = args[1:]
	} else if e.Addr, err = netip.ParseAddr(last); err == nil {
		args = args[:len(args)-1]
	} else {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := options(args, &e); err != nil {
		return err
	}
	return c.AddEndpoint(e)
}

func get(c *mptcp.Client, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errUsage
	}
	id, err := number[uint8](args[0])
	if err != nil {
		return err
	}
	e, err := c.Endpoint(id)
	if err != nil {
		return err
	}
	return show(out, e)
}

func set(c *mptcp.Client, args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	var e mptcp.Endpoint
	if args[0] == "id" {
		if err := options(args[:2], &e); err != nil {
			return err
		}
		args = args[2:]
	} else {
		var err error
		if e.Addr, err = netip.ParseAddr(args[0]); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		args = args[1:]
	}
	id := e.ID
	if err := options(args, &e); err != nil {
		return err
	}
	if id != 0 && e.Port != 0 {
		return fmt.Errorf("%w: port cannot be used with id", errUsage)
	}
	return c.SetFlags(e, e.Flags)
}

func del(c *mptcp.Client, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errUsage
	}
	id, err := number[uint8](args[0])
	if err != nil {
		return err
	}
	if id != 0 {
		return c.DeleteEndpoint(mptcp.Endpoint{ID: id})
	}
	// Id 0 is on the wire of every connection's initial subflow, and of no endpoint.
	if len(args) != 2 {
		return fmt.Errorf("%w: id 0 needs an address", errUsage)
	}
	a, err := netip.ParseAddr(args[1])
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return c.CloseInitialSubflows(a)
}

func dump(c *mptcp.Client, args []string, out io.Writer) error {
	if len(args) > 0 {
		return fmt.Errorf("dump %s: %w", args[0], errUserspace)
	}
	list, err := c.Endpoints()
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := show(out, e); err != nil {
			return err
		}
	}
	return nil
}

// show prints one endpoint: "id 2 flags subflow,backup dev lo 10.0.1.2".
func show(out io.Writer, e mptcp.Endpoint) error {
	var names []string
	rest := e.Flags
	for _, f := range flagNames {
		if rest&f.flag != 0 {
			names = append(names, f.name)
		}
		rest &^= f.flag
	}
	if rest != 0 {
		names = append(names, fmt.Sprintf("0x%x", uint32(rest)))
	}
	dev := ""
	if e.IfIndex != 0 {
		dev = fmt.Sprintf("dev unknown/%d ", e.IfIndex)
		if link, err := net.InterfaceByIndex(int(e.IfIndex)); err == nil {
			dev = "dev " + link.Name + " "
		}
	}
	port := ""
	if e.Port != 0 {
		port = " " + strconv.Itoa(int(e.Port))
	}
	_, err := fmt.Fprintf(out, "id %d flags %s %s%s%s\n", e.ID, strings.Join(names, ","), dev, e.Addr, port)
	return err
}

func limits(c *mptcp.Client, args []string, out io.Writer) error {
	switch len(args) {
	case 0:
		l, err := c.Limits()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "accept %d\nsubflows %d\n", l.AddAddrAccepted, l.Subflows)
		return err
	case 2:
		accepted, err := number[uint32](args[0])
		if err != nil {
			return err
		}
		subflows, err := number[uint32](args[1])
		if err != nil {
			return err
		}
		return c.SetLimits(mptcp.Limits{AddAddrAccepted: accepted, Subflows: subflows})
	}
	return errUsage
}
