package netstate

import "strings"

// Link flags that decide something (linux/if.h).
const (
	FlagUp        = 0x1     // IFF_UP: administratively up
	FlagLoopback  = 0x8     // IFF_LOOPBACK
	FlagP2P       = 0x10    // IFF_POINTOPOINT
	FlagNoARP     = 0x80    // IFF_NOARP
	FlagLowerUp   = 0x10000 // IFF_LOWER_UP: the carrier
	FlagMulticast = 0x1000  // IFF_MULTICAST
)

// Link is a network interface as RTM_GETLINK shows it.
type Link struct {
	Index     int // ifindex
	Name      string
	Kind      string // IFLA_INFO_KIND: veth, bridge, tun, ...; empty for hardware
	PortKind  string // IFLA_INFO_SLAVE_KIND: what the link is a port of
	Master    int    // ifindex of the bridge, bond, team or VRF; 0: none
	Type      uint16 // ARPHRD_ number
	Flags     uint32 // IFF_ bits
	OperState uint8  // RFC 2863 state, IF_OPER_ number
	MTU       uint32
	MAC       string // "52:54:00:12:34:56"; empty without one
	DevType   string // DEVTYPE of the uevent: wlan, wwan, ...; empty when unknown
	Driver    string // name of the driver; empty when unknown
}

// Up tells whether the link is administratively up.
func (l Link) Up() bool { return l.Flags&FlagUp != 0 }

// Loopback tells whether the link is the loopback.
func (l Link) Loopback() bool { return l.Flags&FlagLoopback != 0 }

// operDown and operLowerLayerDown are IF_OPER_ numbers (linux/if.h); a link in
// state "dormant" (an unauthenticated Wi-Fi) carries no packets either.
const (
	operNotPresent     = 1
	operDown           = 2
	operLowerLayerDown = 3
	operTesting        = 4
	operDormant        = 5
)

// Carrier tells whether packets can leave by the link. Drivers that never set
// an operational state leave it "unknown"; then the carrier bit alone counts.
func (l Link) Carrier() bool {
	switch l.OperState {
	case operNotPresent, operDown, operLowerLayerDown, operTesting, operDormant:
		return false
	}
	return l.Flags&FlagLowerUp != 0
}

// ARPHRD_ numbers (linux/if_arp.h) of the link types that have a name.
const (
	arphrdEther    = 1
	arphrdPPP      = 512
	arphrdRawIP    = 519
	arphrdTunnel   = 768
	arphrdTunnel6  = 769
	arphrdLoopback = 772
	arphrdSIT      = 776
	arphrdIPGRE    = 778
	arphrdNone     = 65534
)

// TypeName is the word by which a configuration calls the link's type: the
// kernel's DEVTYPE where it has one, else a word for the ARPHRD number.
func (l Link) TypeName() string {
	switch {
	case l.DevType != "":
		return l.DevType
	case l.Kind == "wwan" || l.Type == arphrdRawIP:
		return "wwan"
	case l.Type == arphrdPPP || l.Kind == "ppp":
		return "ppp"
	case l.Type == arphrdEther:
		return "ether"
	case l.Type == arphrdLoopback:
		return "loopback"
	case l.Type == arphrdNone:
		return "none"
	}
	return "other"
}

// Cellular tells whether the link is a mobile modem, which is backup unless
// configured.
func (l Link) Cellular() bool { return l.TypeName() == "wwan" }

// tunnelKinds are the IFLA_INFO_KIND names of links that carry packets inside
// other packets: a default route by one of them is a VPN, not an uplink.
// OpenVPN's data channel offload, which it uses unasked where the kernel has
// it, is "ovpn" since Linux 6.16 and the other two as a module before.
var tunnelKinds = map[string]bool{
	"tun": true, "wireguard": true, "amneziawg": true,
	"ovpn": true, "ovpn-dco": true, "ovpn-dco-v2": true, "ipip": true, "ip6tnl": true, "gre": true,
	"gretap": true, "ip6gre": true, "ip6gretap": true, "erspan": true,
	"ip6erspan": true, "sit": true, "vti": true, "vti6": true, "xfrm": true,
}

// Tunnel tells whether the link is of a tunnel kind. Links made before their
// driver had a kind are known by their ARPHRD number.
func (l Link) Tunnel() bool {
	switch l.Type {
	case arphrdTunnel, arphrdTunnel6, arphrdSIT, arphrdIPGRE:
		return true
	}
	return tunnelKinds[l.Kind]
}

// String is the link as `ip -brief link` shows it.
func (l Link) String() string {
	var b strings.Builder
	b.WriteString(l.Name)
	if l.Up() {
		b.WriteString(" up")
	} else {
		b.WriteString(" down")
	}
	if l.Up() && !l.Carrier() {
		b.WriteString(" no-carrier")
	}
	return b.String()
}
